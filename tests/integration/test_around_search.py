"""What holds for a search holds for what is around it: pages, counts, explanations, documents like others."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import EncoderError, HybridSearch, Query, QueryError, StatementTimeout
from hybridsearch.backfill import backfill
from hybridsearch.settings import Settings
from tests.support.encoders import BREAKAGES, BrokenEncoder, WordHashEncoder
from tests.support.locks import hopeless
from tests.support.models import articles, fill

LONG = 30.0  # seconds
ENCODING = ["search", "page", "facets", "explain", "why_not"]
METHODS = [*ENCODING, "similar_to", "recommend"]


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.told = []
    shop.search = HybridSearch(shop.index, on_search=shop.told.append)
    return shop


def given(shop: SimpleNamespace, method: str, text: Any = "red chair") -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a method is called with, beside its session and options."""
    return {
        "facets": ((text,), {"by": {"title": shop.Article.title}}),
        "why_not": ((text, 2), {}),
        "similar_to": ((1,), {}),
        "recommend": ((), {"positive": [1], "negative": [2]}),
    }.get(method, ((text,), {}))


def call(shop: SimpleNamespace, method: str, session: Session, text: Any = "red chair", **options: Any) -> Any:
    """The answer of a method by its name."""
    arguments, named = given(shop, method, text)
    return getattr(shop.search, method)(session, *arguments, **named, **options)


def ids(answer: Any) -> list[int]:
    return [hit.document.id for hit in answer]


# The encoder


@pytest.mark.parametrize("method", ENCODING)
@pytest.mark.parametrize("deadline", [None, LONG])
def test_a_broken_encoder_leaves_the_words(
    shop: SimpleNamespace, session: Session, method: str, deadline: float | None
) -> None:
    words = call(shop, method, session, legs=["lexical"])
    shop.index.encoder.broken = "raises"
    found = call(shop, method, session, deadline=deadline)
    assert found.degraded.startswith('answered by words alone: encoder "word-hash" failed')
    assert shop.told[-1].lost == ("encode",)
    if method == "why_not":
        assert (found.stage, set(found.legs)) == (words.stage, {"lexical"})
        assert found.to_dict()["degraded"] == found.degraded
    else:
        assert found == words
        assert words


@pytest.mark.parametrize("method", ENCODING)
def test_it_is_an_error_where_no_words_were_to_be_searched(
    shop: SimpleNamespace, session: Session, method: str
) -> None:
    shop.index.encoder.broken = "raises"
    with pytest.raises(EncoderError, match="fell over"):
        call(shop, method, session, legs=["dense"])


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_is_like_a_document_needs_no_encoder(shop: SimpleNamespace, session: Session, breakage: str) -> None:
    whole = [call(shop, method, session) for method in ("similar_to", "recommend")]
    shop.index.encoder.broken = breakage
    assert [call(shop, method, session, deadline=LONG) for method in ("similar_to", "recommend")] == whole
    assert all(whole)


def test_counts_over_all_matches_need_no_encoder(shop: SimpleNamespace, session: Session) -> None:
    whole = call(shop, "facets", session, over="matches")
    shop.index.encoder.broken = "raises"
    found = call(shop, "facets", session, "red chair ", over="matches")
    assert (found, found.degraded) == (whole, None)


def test_later_pages_need_no_encoder(shop: SimpleNamespace, session: Session) -> None:
    whole = ids(shop.search.search(session, "red chair"))
    first = shop.search.page(session, "red chair", limit=2)
    elsewhere = HybridSearch(shop.index)  # has encoded nothing
    shop.index.encoder.broken = "raises"
    for search in (shop.search, elsewhere):
        second = search.page(session, "red chair", limit=2, after=first.next)
        assert ids(first) + ids(second) == whole
        assert second.degraded is None
        assert all(set(hit.ranks) <= {"dense", "lexical"} for hit in second)
    assert any("dense" in hit.ranks for hit in second)


def test_later_pages_of_a_list_by_words_alone_say_so(shop: SimpleNamespace, session: Session) -> None:
    shop.index.encoder.broken = "raises"
    first = shop.search.page(session, "red chair", limit=1)
    assert first.degraded.startswith("answered by words alone")
    shop.index.encoder.broken = None
    second = shop.search.page(session, "red chair", limit=1, after=first.next)
    assert second.degraded == "the list was ranked without dense"
    assert ids(first) + ids(second) == ids(shop.search.search(session, "red chair", legs=["lexical"]))[:2]


# The database


def test_a_leg_that_takes_too_long_is_left_out_of_the_list_of_pages(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    words = ids(shop.search.search(session, "red chair", legs=["lexical"]))
    session.rollback()
    with hopeless(engine, "article_chunk"):
        first = shop.search.page(session, "red chair", limit=2, deadline=LONG)
    assert "leg dense left out: no answer from the database within" in first.degraded
    second = shop.search.page(session, "red chair", limit=2, after=first.next, deadline=LONG)
    assert second.degraded == "the list was ranked without dense"
    assert ids(first) + ids(second) == words


@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("search", "page")])
def test_a_statement_that_takes_too_long_is_given_up(
    shop: SimpleNamespace, engine: Engine, session: Session, method: str
) -> None:
    whole = call(shop, method, session)
    session.rollback()
    with hopeless(engine, "article_chunk"), pytest.raises(StatementTimeout, match="no answer from the database within"):
        call(shop, method, session, deadline=LONG)
    assert call(shop, method, session, deadline=LONG) == whole  # the transaction goes on


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_before_the_statement_is_limited_as_well(
    shop: SimpleNamespace, engine: Engine, session: Session, method: str
) -> None:
    """The table that says who filled the index, which only vectors of an encoder are checked against."""
    with hopeless(engine, "hybridsearch.index"):
        if method in ENCODING:
            with pytest.raises(StatementTimeout):
                call(shop, method, session, deadline=LONG)
            call(shop, method, session, legs=["lexical"], deadline=LONG)
        else:
            call(shop, method, session, deadline=LONG)


def test_rows_that_take_too_long_to_read_leave_the_other_legs(engine: Engine, session: Session) -> None:
    shop = articles(encoder=WordHashEncoder(), engine="memory")
    fill(engine, shop)
    backfill(engine, shop.index)
    search = HybridSearch(shop.index)
    with engine.begin() as connection:  # reading a text waits for a table, and nothing else does
        connection.exec_driver_sql("create table gate ()")
        connection.exec_driver_sql(
            "create or replace function hybridsearch.as_text(content text) returns text language sql volatile "
            "as $$ select content from (select count(*) from public.gate) as gate $$"
        )
    with hopeless(engine, "gate"):
        hits = search.search(session, "red chair", deadline=LONG, suggest=True)
        with pytest.raises(StatementTimeout):
            search.search(session, "red chair", legs=["lexical"], deadline=LONG)
    assert hits.degraded.startswith("leg lexical left out: no answer from the database within")
    assert ids(hits) == ids(search.search(session, "red chair", legs=["dense"]))
    assert set(search.search(session, "red chair", legs=["dense"], suggest=True)[0].ranks) == {"dense"}


# Beside the list


@pytest.mark.parametrize("fusion", ["rrf", "zscore"])
def test_a_first_page_has_all_that_the_hits_of_a_search_have(
    shop: SimpleNamespace, session: Session, fusion: Any
) -> None:
    options = {"snippet": True, "fusion": fusion, "boosts": {"id": shop.Article.id}, "limit": 3}
    hits = shop.search.search(session, "red chiar", **options)
    page = shop.search.page(session, "red chiar", **options)
    assert page == hits
    assert all(hit.distances and hit.shares and hit.boosts for hit in page)
    assert page.suggestion == hits.suggestion == "red chair"
    second = shop.search.page(session, "red chiar", after=page.next, **options)
    assert len(second) == 1
    assert second[0].snippet is not None
    assert second.suggestion is None


def test_what_is_like_a_document_may_have_snippets(shop: SimpleNamespace, session: Session) -> None:
    assert all(hit.snippet for hit in shop.search.similar_to(session, 1, snippet=True))


def test_pages_may_differ_in_what_does_not_change_the_list(shop: SimpleNamespace, session: Session) -> None:
    after = shop.search.page(session, "red chair", limit=1, suggest=True, deadline=LONG).next
    assert shop.search.page(session, "red chair", after=after, snippet=True, suggest=False)


@pytest.mark.parametrize(
    ("method", "option", "said"),
    [
        ("facets", {"snippet": True}, "facets has no snippet: leave it out"),
        ("facets", {"suggest": True}, "facets has no suggest"),
        ("explain", {"snippet": True}, "explain has no snippet"),
        ("why_not", {"suggest": True}, "why_not has no suggest"),
        ("similar_to", {"suggest": True}, "a search by documents has no suggest"),
        ("recommend", {"config": "german"}, "a search by documents has no config"),
    ],
)
def test_what_a_method_cannot_do_is_refused(
    shop: SimpleNamespace, session: Session, method: str, option: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError, match=said):
        call(shop, method, session, **option)
    nothing = {name: False if value is True else None for name, value in option.items()}
    assert call(shop, method, session, **nothing) is not None


def test_a_statement_has_no_deadline_and_a_later_page_no_suggestion(shop: SimpleNamespace, session: Session) -> None:
    for option in ({"deadline": 1.0}, {"snippet": True}, {"suggest": True}):
        with pytest.raises(QueryError, match=f"select has no {next(iter(option))}: leave it out"):
            shop.search.select("red chair", **option)
    assert HybridSearch(shop.index, settings=Settings(deadline=1.0)).select("red chair") is not None
    after = shop.search.page(session, "red chair", limit=1).next
    with pytest.raises(QueryError, match="a page after another has no suggest"):
        shop.search.page(session, "red chair", after=after, suggest=True)


@pytest.mark.parametrize("method", METHODS)
def test_each_call_is_told_of_once(shop: SimpleNamespace, session: Session, method: str) -> None:
    found = call(shop, method, session)
    (record,) = shop.told
    assert record.method == ("recommend" if method == "similar_to" else method)
    assert (record.index, record.lost, record.error) == ("article", (), None)
    assert record.hits == (0 if method in ("facets", "why_not") else len(found))
    assert {"query"} <= set(record.stages) <= {"encode", "query", "suggest"}
    assert ("encode" in record.stages) == (method in ENCODING)


# In an event loop


def run(database: URL, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        engine = create_async_engine(database.set(drivername="postgresql+psycopg"))
        try:
            async with AsyncSession(engine) as session:
                return await work(session)
        finally:
            await engine.dispose()

    return asyncio.run(main())


def plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [(one.document.id, one.score, getattr(one, "ranks", None)) for one in answer]
    return answer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", [None, "raises"])
def test_the_async_form_gives_the_same(
    shop: SimpleNamespace, session: Session, database: URL, method: str, broken: str | None
) -> None:
    shop.index.encoder.broken = broken
    expected = call(shop, method, session)
    shop.search = HybridSearch(shop.index)
    arguments, named = given(shop, method)

    async def work(opened: AsyncSession) -> Any:
        return await getattr(shop.search, f"{method}_async")(opened, *arguments, **named)

    found = run(database, work)
    assert plain(found) == plain(expected)
    assert found.degraded == expected.degraded


class HeavyEncoder(WordHashEncoder):
    """Reads a model when it is first asked what it is, which must not be in an event loop."""

    def __init__(self) -> None:
        self.asked_in: list[int] = []
        super().__init__()

    @property
    def fingerprint(self) -> str:
        self.asked_in.append(threading.get_ident())
        return self._fingerprint

    @fingerprint.setter
    def fingerprint(self, value: str) -> None:
        self._fingerprint = value


@pytest.mark.parametrize("text", ["red chair", Query("red", dense=np.ones(32)), Query("red chair")])
@pytest.mark.parametrize("method", ENCODING)
def test_what_an_encoder_is_is_asked_in_a_thread_if_at_all(
    shop: SimpleNamespace, database: URL, method: str, text: Any
) -> None:
    heavy = HeavyEncoder()
    search = HybridSearch(shop.index, encoder=heavy)
    arguments, named = given(shop, method, text)

    async def work(opened: AsyncSession) -> int:
        await getattr(search, f"{method}_async")(opened, *arguments, **named)
        return threading.get_ident()

    loop = run(database, work)
    if isinstance(text, Query) and text.dense is None:
        assert heavy.asked_in == []
    else:
        assert heavy.asked_in[0] != loop


def test_words_and_documents_are_searched_whoever_filled_the_index(shop: SimpleNamespace, session: Session) -> None:
    search = HybridSearch(shop.index, encoder=WordHashEncoder(revision="2"))
    assert search.search(session, "red chair", legs=["lexical"])
    assert search.similar_to(session, 1)
    with pytest.raises(EncoderError, match="index again with rebuild"):
        search.search(session, Query("red", dense=np.ones(32)))
