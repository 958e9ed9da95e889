"""A broken part is not waited for: what is left answers, and says what is missing."""

import asyncio
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import EncoderError, EncoderMismatch, HybridSearch, QueryError, Rerank, Settings, StatementTimeout
from hybridsearch.backfill import backfill
from hybridsearch.patience import Patience
from hybridsearch.query_cache import SharedStore
from tests.support.encoders import BREAKAGES, BrokenEncoder, WordHashEncoder
from tests.support.locks import hopeless, locked
from tests.support.models import TEXTS, articles, fill

LONG = 30.0  # seconds: nobody has waited as long as this who kept a deadline
DEADLINE = 6.0  # what is left for a leg that answers is a second


class SlowEncoder(WordHashEncoder):
    """Does not answer a query before `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.asked = 0

    def encode_queries(self, texts: Any) -> Any:
        self.asked += 1
        self.go.wait(LONG)
        return super().encode_queries(texts)

    def encode_documents(self, texts: Any) -> Any:
        return super().encode_queries(texts)


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def ids(hits: list[Any]) -> list[int]:
    return [hit.document.id for hit in hits]


# The encoder


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_encoder_leaves_the_words(shop: SimpleNamespace, session: Session, breakage: str) -> None:
    words = ids(shop.search.search(session, "red chair", legs=["lexical"]))
    shop.index.encoder.broken = breakage
    hits = shop.search.search(session, "red chair")
    assert ids(hits) == words
    assert all(set(hit.ranks) == {"lexical"} for hit in hits)
    assert hits.degraded.startswith('answered by words alone: encoder "word-hash"')
    shop.index.encoder.broken = None
    assert shop.search.search(session, "red chair").degraded is None


@pytest.mark.parametrize("legs", [["dense"], ["dense", "lexical"]])
def test_it_is_an_error_where_no_words_were_to_be_searched(
    shop: SimpleNamespace, session: Session, legs: list[str]
) -> None:
    shop.index.encoder.broken = "raises"
    with pytest.raises(EncoderError, match="fell over"):
        shop.search.search(session, "red chair", legs=legs, weights={"lexical": 0.0})


def test_an_encoder_of_another_index_is_an_error_still(shop: SimpleNamespace, session: Session) -> None:
    other = articles(encoder=WordHashEncoder(revision="2"))
    with pytest.raises(EncoderMismatch):
        HybridSearch(other.index).search(session, "chair", deadline=LONG)


def test_a_slow_encoder_is_not_waited_for_and_then_left_alone(shop: SimpleNamespace, session: Session) -> None:
    slow = SlowEncoder()
    slow.fingerprint = shop.index.encoder.fingerprint
    search = HybridSearch(shop.index, encoder=slow)
    begun = time.monotonic()
    for _ in range(6):
        hits = search.search(session, "red chair", deadline=0.2)
        assert ids(hits) == ids(shop.search.search(session, "red chair", legs=["lexical"]))
    assert time.monotonic() - begun < LONG / 2
    assert slow.asked == 3
    assert "failed 3 times in a row, and is left alone for a while" in hits.degraded
    slow.go.set()


def test_after_the_pause_one_call_tries_again() -> None:
    now = [0.0]
    patience = Patience(failures=2, pause=5.0, clock=lambda: now[0])

    def fail() -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            patience.ask(1.0, fail, "it")
    with pytest.raises(EncoderError, match="it failed 2 times in a row"):
        patience.ask(1.0, lambda: "fine", "it")
    now[0] = 5.0
    with pytest.raises(ValueError, match="no"):
        patience.ask(1.0, fail, "it")
    with pytest.raises(EncoderError, match="it failed 3 times in a row"):
        patience.ask(1.0, lambda: "fine", "it")
    now[0] = 10.0
    assert patience.ask(1.0, lambda: "fine", "it") == "fine"
    assert patience.ask(1.0, lambda: "fine", "it") == "fine"


def test_while_it_is_left_alone_what_is_remembered_is_searched_whole(shop: SimpleNamespace, session: Session) -> None:
    whole = shop.search.search(session, "red chair")
    shop.index.encoder.broken = "raises"
    for _ in range(3):
        assert shop.search.search(session, "blue table", deadline=LONG).degraded
    assert "left alone for a while" in shop.search.search(session, "blue table", deadline=LONG).degraded
    again = shop.search.search(session, "red chair", deadline=LONG)
    assert again.degraded is None
    assert again == whole


def test_what_is_remembered_needs_no_thread(shop: SimpleNamespace, session: Session) -> None:
    shop.search.search(session, "red chair")
    started: list[str] = []
    threading.setprofile(lambda frame, event, argument: started.append(threading.current_thread().name))
    try:
        assert shop.search.search(session, "red chair", deadline=LONG).degraded is None
        assert not [name for name in started if "word-hash" in name]
        assert shop.search.search(session, "blue table", deadline=LONG).degraded is None
        assert [name for name in started if "word-hash" in name]
    finally:
        threading.setprofile(None)


def test_what_another_process_has_encoded_is_found_while_the_encoder_is_left_alone(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    HybridSearch(shop.index, store=SharedStore(engine)).encode("red chair")
    other = HybridSearch(shop.index, store=SharedStore(engine))
    shop.index.encoder.broken = "raises"
    for _ in range(3):
        assert other.search(session, "blue table", deadline=LONG).degraded
    assert "left alone" in other.search(session, "blue table", deadline=LONG).degraded
    assert other.search(session, "red chair", deadline=LONG).degraded is None


# The legs


@pytest.mark.parametrize(("table", "lost"), [("article_chunk", "dense"), ("article_posting", "lexical")])
def test_a_leg_that_takes_too_long_is_left_out(
    shop: SimpleNamespace, engine: Engine, session: Session, table: str, lost: str
) -> None:
    (left,) = {"dense", "lexical"} - {lost}
    expected = ids(shop.search.search(session, "red chair", legs=[left]))
    session.rollback()
    with locked(engine, table):
        begun = time.monotonic()
        hits = shop.search.search(session, "red chair", deadline=DEADLINE)
        assert time.monotonic() - begun < LONG / 2
    assert ids(hits) == expected
    assert all(set(hit.ranks) == {left} for hit in hits)
    assert f"leg {lost} left out: no answer from the database within" in hits.degraded
    assert shop.search.search(session, "red chair", deadline=LONG).degraded is None


def test_where_no_leg_answers_in_time_it_is_an_error(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    with locked(engine, "article_posting, article_chunk"):
        with pytest.raises(StatementTimeout, match="no leg answered in time: leg lexical left out"):
            shop.search.search(session, "red chair", deadline=1.0)
        with pytest.raises(StatementTimeout, match="no answer from the database within"):
            shop.search.search(session, "red chair", deadline=1.0, legs=["dense"])
    assert isinstance(StatementTimeout(), TimeoutError)
    assert session.scalar(text("select 1")) == 1  # the transaction is not broken


def test_nothing_of_the_callers_is_lost(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    session.execute(text("set statement_timeout = '77s'"))
    session.add(shop.Article(id=99, title="unsaved", body=None))
    with hopeless(engine, "article_posting"):
        assert shop.search.search(session, "red chair", deadline=LONG).degraded
    assert shop.search.search(session, "red chair", deadline=LONG).degraded is None
    assert session.scalar(text("show statement_timeout")) == "77s"
    session.commit()
    with Session(engine) as other:
        assert other.get(shop.Article, 99).title == "unsaved"


def test_a_lower_limit_of_the_callers_stays(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    session.execute(text("set local statement_timeout = '1s'"))
    with locked(engine, "article_posting"):
        begun = time.monotonic()
        assert shop.search.search(session, "red chair", deadline=LONG).degraded
        assert time.monotonic() - begun < LONG / 2


@pytest.mark.parametrize("mode", ["AUTOCOMMIT", "read only", "connection"])
def test_it_holds_in_every_mode_of_a_session(shop: SimpleNamespace, engine: Engine, mode: str) -> None:
    level = {"isolation_level": "AUTOCOMMIT"} if mode == "AUTOCOMMIT" else {"postgresql_readonly": mode == "read only"}
    with engine.connect().execution_options(**level) as connection:
        caller: Session | Connection = connection if mode == "connection" else Session(connection)
        with hopeless(engine, "article_posting"):
            assert "leg lexical" in shop.search.search(caller, "red chair", deadline=LONG).degraded
        assert shop.search.search(caller, "red chair", deadline=LONG).degraded is None
        assert caller.execute(text("show statement_timeout")).scalar() == "0"


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
@pytest.mark.parametrize("level", ["AUTOCOMMIT", "READ COMMITTED"])
def test_it_holds_on_an_async_session(
    shop: SimpleNamespace, engine: Engine, database: URL, driver: str, level: str
) -> None:
    async def work(session: AsyncSession) -> None:
        with hopeless(engine, "article_posting"):
            hits = await shop.search.search_async(session, "red chair", deadline=LONG)
        assert "leg lexical left out" in hits.degraded
        assert {leg for hit in hits for leg in hit.ranks} == {"dense"}
        assert (await shop.search.search_async(session, "red chair", deadline=LONG)).degraded is None
        assert (await session.execute(text("show statement_timeout"))).scalar() == "0"

    on_async_session(database, driver, level, work)


def on_async_session(database: URL, driver: str, level: str, work: Callable[[AsyncSession], Any]) -> None:
    async def main() -> None:
        engine = create_async_engine(database.set(drivername=driver), isolation_level=level)
        try:
            async with AsyncSession(engine) as session:
                await work(session)
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_a_connection_goes_back_to_its_pool_as_it_came(shop: SimpleNamespace, database: URL, engine: Engine) -> None:
    pooled = create_engine(database, pool_size=1, max_overflow=0, pool_reset_on_return=None)
    with hopeless(engine, "article_posting"), pooled.connect() as connection:
        assert shop.search.search(connection, "red chair", deadline=LONG).degraded
        connection.commit()
    with pooled.connect() as connection:
        assert connection.scalar(text("show statement_timeout")) == "0"
        assert connection.scalar(text("show hnsw.ef_search")) == "40"
    pooled.dispose()


# What is beside the hits


def test_without_time_there_is_no_suggestion_and_no_snippet_but_hits(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    with hopeless(engine, "article_term"):
        hits = shop.search.search(session, "red chiar", deadline=LONG, snippet=True, suggest=True)
    assert hits
    assert hits.suggestion is None
    assert "leg lexical left out" in hits.degraded
    assert "no suggest: " in hits.degraded


def test_a_reranker_has_the_time_that_is_left(shop: SimpleNamespace, session: Session) -> None:
    go = threading.Event()

    def scorer(query: str, texts: Any) -> list[float]:
        go.wait(LONG)
        return [1.0] * len(texts)

    begun = time.monotonic()
    hits = shop.search.search(session, "red chair", deadline=3.0, rerank=Rerank(scorer))
    go.set()
    assert time.monotonic() - begun < LONG / 2
    assert len(hits) == len(TEXTS)
    assert hits.degraded.startswith("not reranked: no scores after ")


# Legs apart


@pytest.mark.parametrize("options", [{}, {"fusion": "zscore"}, {"legs": ["dense"]}, {"where": "id > 1", "limit": 2}])
def test_legs_apart_give_the_same_answer(shop: SimpleNamespace, session: Session, options: dict[str, Any]) -> None:
    options = options | ({"where": shop.Article.id > 1} if "where" in options else {})
    apart = HybridSearch(shop.index, settings=Settings(apart=True))
    expected = shop.search.search(session, "red oak chair", **options)
    found = apart.search(session, "red oak chair", **options)
    assert found == expected
    assert found.degraded is None
    assert apart.search(session, "unheard", legs=["lexical"]) == []


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), "1", True, 3601])
def test_a_deadline_is_a_number_of_seconds(shop: SimpleNamespace, session: Session, deadline: Any) -> None:
    with pytest.raises(QueryError, match=r"deadline is .*: give seconds above 0, to 3,600, or None"):
        shop.search.search(session, "chair", deadline=deadline)
