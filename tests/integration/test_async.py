"""The same search on an AsyncSession, by either driver, is the same answer."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, QueryError, SchemaMissing, ServerUnreachable
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
