"""The same search on an AsyncSession, by either driver, is the same answer."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from itertools import pairwise
from random import Random
from time import thread_time
from typing import Any

import pytest
from sqlalchemy import URL, Engine, insert
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, Query, QueryError, SchemaMissing, ServerUnreachable
from hybridsearch.backfill import backfill
from hybridsearch.page import Page
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles, fill

DRIVERS = ["postgresql+psycopg", "postgresql+asyncpg"]


@pytest.fixture
def shop(engine: Engine) -> Any:
    shop = articles()
    fill(engine, shop)
    backfill(engine, shop.index)
    return shop


def run(address: URL, driver: str, work: Callable[[AsyncSession], Awaitable[Any]]) -> Any:
    """Do the work on a session of the driver, in an event loop of its own."""

    async def main() -> Any:
        engine = create_async_engine(address.set(drivername=driver))
        try:
            async with AsyncSession(engine) as session:
                return await work(session)
        finally:
            await engine.dispose()

    return asyncio.run(main())


def plain(hits: list[Any]) -> list[tuple[Any, ...]]:
    return [(hit.document.id, hit.score, hit.ranks, hit.chunk and hit.chunk.text) for hit in hits]


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("legs", [("dense", "lexical"), ("dense",), ("lexical",)])
def test_the_answer_is_that_of_a_synchronous_search(
    shop: Any, session: Session, database: URL, driver: str, legs: tuple[str, ...]
) -> None:
    search = HybridSearch(shop.index)
    options: dict[str, Any] = {"legs": legs, "limit": 3, "where": shop.Article.id > 1}
    expected = plain(search.search(session, "red oak chair", **options))
    assert len(expected) >= 2

    async def work(session: AsyncSession) -> list[tuple[Any, ...]]:
        return plain(await search.search_async(session, "red oak chair", **options))

    assert run(database, driver, work) == expected


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_ranking_composes_on_an_async_session(shop: Any, session: Session, database: URL, driver: str) -> None:
    statement = HybridSearch(shop.index).select("red chair", limit=2)
    expected = session.execute(statement).all()

    async def work(session: AsyncSession) -> Any:
        return (await session.execute(statement)).all()

    assert run(database, driver, work) == expected


def test_the_event_loop_goes_on_while_the_text_is_encoded(shop: Any, database: URL) -> None:
    loop_went_on = threading.Event()

    class WaitingEncoder(WordHashEncoder):
        def encode_queries(self, texts: Any) -> Any:
            assert loop_went_on.wait(10), "the event loop stood still"
            return super().encode_queries(texts)

    search = HybridSearch(shop.index, encoder=WaitingEncoder())

    async def work(session: AsyncSession) -> Any:
        searching = asyncio.ensure_future(search.search_async(session, "red chair"))
        await asyncio.sleep(0)
        loop_went_on.set()
        return await searching

    assert run(database, DRIVERS[0], work)


@pytest.fixture
def long_texts(engine: Engine) -> Any:
    """Texts of 20,000 characters, and 30,000 words that are spelt alike."""
    shop = articles()
    shop.Base.metadata.create_all(engine)
    draw = Random(1)
    texts = ["lamp " * 1000 + " ".join(draw.choices(["chair", "oak"], k=4000)) for _ in range(20)]
    texts += [" ".join("b" + "".join(draw.choices("aeilnorst", k=7)) for _ in range(1000)) for _ in range(30)]
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), [{"id": n, "title": "x", "body": text} for n, text in enumerate(texts)])
    backfill(engine, shop.index)
    return shop


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (Query("chair oak", dense=WordHashEncoder().encode_queries(["lamp"]).dense[0]), {"snippet": True, "limit": 20}),
        (Query("bantoilers bestorials bilntorase botnairels bartonelis bronteslia"), {"suggest": True}),
    ],
    ids=["snippets", "suggestions"],
)
def test_the_event_loop_is_kept_for_short_turns(
    long_texts: Any, database: URL, query: Query, options: dict[str, Any]
) -> None:
    """Snippets of the texts of fields, since the nearest chunks have no match; six unknown words."""
    search = HybridSearch(long_texts.index)

    async def turns(beats: list[float]) -> None:
        while True:
            beats.append(thread_time())  # of this thread alone: other processes do not count
            await asyncio.sleep(0.0005)

    async def work(session: AsyncSession) -> list[float]:
        hits = await search.search_async(session, query, **options)  # builds the statements
        assert all("<mark>" in str(hit.snippet) for hit in hits)  # no hits in the second case
        beats: list[float] = []
        beating = asyncio.ensure_future(turns(beats))
        await asyncio.sleep(0)
        await search.search_async(session, query, **options)
        await asyncio.sleep(0.001)
        beating.cancel()
        return [after - before for before, after in pairwise(beats)]

    assert max(run(database, DRIVERS[0], work)) < 0.05  # seconds


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_refresh_is_that_of_a_session_and_the_event_loop_goes_on(engine: Engine, database: URL, driver: str) -> None:
    loop_went_on = threading.Event()

    class WaitingEncoder(WordHashEncoder):
        def encode_documents(self, texts: Any) -> Any:
            assert loop_went_on.wait(10), "the event loop stood still"
            return super().encode_documents(texts)

    shop = articles(encoder=WaitingEncoder())
    fill(engine, shop)
    search = HybridSearch(shop.index)

    async def work(session: AsyncSession) -> Any:
        refreshing = asyncio.ensure_future(search.refresh_async(session))
        while not (refreshing.done() or shop.index.encoder.encoded):
            await asyncio.sleep(0.01)
            loop_went_on.set()
        page = await refreshing
        await session.commit()
        return page, plain(await search.search_async(session, "red chair"))

    page, hits = run(database, driver, work)
    assert page == Page(written=4)
    with Session(engine) as session:
        assert plain(search.search(session, "red chair")) == hits
        assert search.refresh(session) == Page()


@pytest.mark.parametrize("driver", DRIVERS)
def test_errors_are_those_of_a_synchronous_search(shop: Any, database: URL, bare_database: URL, driver: str) -> None:
    search = HybridSearch(shop.index)

    async def work(session: AsyncSession) -> Any:
        return await search.search_async(session, "red chair")

    async def empty(session: AsyncSession) -> Any:
        return await search.search_async(session, " ")

    with pytest.raises(QueryError, match="the query is empty"):
        run(database, driver, empty)
    with pytest.raises(SchemaMissing, match="run `hybridsearch migrate`"):
        run(bare_database, driver, work)
    for unreachable in (
        database.set(database="no_such_database"),
        database.set(host="127.0.0.1", port=1, query={}),
    ):
        with pytest.raises(ServerUnreachable, match="Check DATABASE_URL"):
            run(unreachable, driver, work)
