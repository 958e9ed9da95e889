"""A read replica answers: nothing on the way of a search writes."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.indexing import index_rows
from hybridsearch.query_cache import SharedStore
from hybridsearch.requests import answering
from hybridsearch.schema import migrate
from tests.support.models import articles, fill
from tests.support.servers import own_server, standby_of

CALL = text("select article_id, score, note from article_search(:query)")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Engine, Engine, Any]]:
    """A primary with an index, and its standby."""
    shop = articles()
    with own_server() as address:
        primary = create_engine(address)
        with primary.begin() as connection:
            migrate(connection)
            connection.execute(text("create extension dblink"))
        fill(primary, shop)
        with Session(primary) as session:
            for _ in index_rows(session, shop.index):
                session.commit()
        with standby_of(address) as replica:
            standby = create_engine(replica)
            yield primary, standby, shop
            standby.dispose()
        primary.dispose()


def found(engine: Engine, shop: Any, query: str) -> list[tuple[int, float]]:
    with Session(engine) as session:
        hits = HybridSearch(shop.index, store=SharedStore(engine)).search(session, query)
        return [(hit.document.id, hit.score) for hit in hits]


def test_python_and_sql_search_a_standby(servers: tuple[Engine, Engine, Any]) -> None:
    primary, standby, shop = servers
    with standby.connect() as connection:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text("create table anything (id int)"))
        connection.rollback()
    expected = found(primary, shop, "red chair")
    assert len(expected) == 4
    assert found(standby, shop, "red chair") == expected
    _replayed(primary, standby)
    with standby.connect() as connection:
        rows = connection.execute(CALL, {"query": "red chair"}).all()
    assert [(row.article_id, pytest.approx(row.score), row.note) for row in rows] == [(*hit, None) for hit in expected]


def test_a_standby_asks_a_worker_of_its_primary(servers: tuple[Engine, Engine, Any]) -> None:
    primary, standby, shop = servers
    with standby.connect() as connection:
        said = {row.note for row in connection.execute(CALL, {"query": "chair"})}
        assert said == {"no worker is running that could encode the query"}
        connection.rollback()
        name = "host={host} port={port} dbname={database} user={username}"
        place = {**primary.url.query, **primary.url.translate_connect_args()}
        connection.execute(
            text("select set_config('hybridsearch.dblink', :name, false)"),
            {
                "name": name.format(
                    host=place["host"],
                    port=place.get("port", 5432),
                    database=place["database"],
                    username=place["username"],
                )
            },
        )
        connection.commit()
        with answering(primary, [shop.index]):
            while said != {None}:
                said = {row.note for row in connection.execute(CALL, {"query": "chair"})}
                connection.rollback()


def test_what_is_committed_on_the_primary_is_found_on_the_standby(servers: tuple[Engine, Engine, Any]) -> None:
    primary, standby, shop = servers
    with Session(primary) as session:
        session.add(shop.Article(id=50, title="Velvet sofa", body="Green."))
        session.commit()
        for _ in index_rows(session, shop.index):
            session.commit()
    _replayed(primary, standby)
    assert found(standby, shop, "velvet")[0][0] == 50


def _replayed(primary: Engine, standby: Engine) -> None:
    with primary.connect() as there, standby.connect().execution_options(isolation_level="AUTOCOMMIT") as here:
        written = there.scalar(text("select pg_current_wal_lsn()"))
        while not here.scalar(
            text("select pg_last_wal_replay_lsn() >= cast(:written as pg_lsn)"), {"written": written}
        ):
            pass
