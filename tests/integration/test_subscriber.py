"""A server that gets the table by logical replication: the index there follows what is applied."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.freshness import freshness
from hybridsearch.lexical import lexical
from hybridsearch.schema import migrate
from hybridsearch.worker import Worker, running
from tests.support.afresh import differences
from tests.support.crash import mortal_server
from tests.support.models import articles
from tests.support.servers import libpq_address, own_server
from tests.support.workers import is_drained, until

shop = articles()


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Engine, Engine]]:
    """A publisher with the table, four rows in it, and a subscriber with the table and the index."""
    with mortal_server() as upstream, own_server() as downstream:
        publisher = create_engine(upstream.address, isolation_level="AUTOCOMMIT")
        with publisher.connect() as connection:
            connection.execute(text("alter system set wal_level = logical"))
        publisher.dispose()
        upstream.kill()
        upstream.restart()
        with publisher.connect() as connection:
            connection.execute(text("create table article (id int primary key, title text not null, body text)"))
            connection.execute(
                text("insert into article select n, 'Old chair ' || n from generate_series(1, 400) as n")
            )
            connection.execute(text("create publication words for table article"))
        subscriber = create_engine(downstream)
        with subscriber.begin() as connection:
            migrate(connection)
            shop.Base.metadata.create_all(connection)
        with subscriber.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # DDL takes no parameters; the address is the test's own.
            address = libpq_address(upstream.address)
            create = f"create subscription words connection '{address}' publication words"
            connection.exec_driver_sql(create, execution_options={"no_parameters": True})
            yield publisher, subscriber
            connection.exec_driver_sql("drop subscription words")
        publisher.dispose()
        subscriber.dispose()


def rows(engine: Engine) -> list[tuple[int, str, str | None]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("select id, title, body from article order by id"))]


def changed(engine: Engine) -> set[int | None]:
    with engine.connect() as connection:
        keys = func.unnest(shop.index.changes.c.article_id)
        return set(connection.scalars(select(keys)))


STATEMENTS = {
    "insert": ("insert into article select n, 'New stool' from generate_series(501, 800) as n", range(501, 801)),
    "update": ("update article set title = 'Purple sofa' where id % 2 = 0 and id < 300", range(2, 300, 2)),
    "update of nothing": ("update article set title = title, body = body where id < 10", []),
    "changed key": ("update article set id = 5000 where id = 501", [501, 5000]),
    "delete": ("delete from article where id between 20 and 29", range(20, 30)),
    "truncate": ("truncate article", [None]),
}


def test_the_index_follows_what_is_applied(servers: tuple[Engine, Engine]) -> None:
    publisher, subscriber = servers
    worker = Worker(subscriber, [shop.index])
    until(lambda: rows(subscriber) == rows(publisher))  # the copy of what was there
    assert changed(subscriber) == set(range(1, 401))
    worker.once()
    assert differences(subscriber, shop.index) == 0
    for name, (statement, keys) in STATEMENTS.items():
        with publisher.connect() as connection:
            connection.execute(text(statement))
            connection.execute(text("insert into article values (9999, :name)"), {"name": name})
        until(lambda: rows(subscriber) == rows(publisher))
        assert changed(subscriber) == {9999, *keys}, name
        with Session(subscriber) as session:  # by its words at once
            assert [row[0] for row in session.execute(lexical(shop.index, name, candidates=1))] == [9999]
        with publisher.connect() as connection:
            connection.execute(text("delete from article where id = 9999"))
        until(lambda: rows(subscriber) == rows(publisher))
        worker.once()
        assert differences(subscriber, shop.index) == 0, name


def test_a_worker_is_woken_by_what_is_applied(servers: tuple[Engine, Engine]) -> None:
    publisher, subscriber = servers
    with running(subscriber, [shop.index], poll=60):
        until(lambda: workers(subscriber) == 1)
        with publisher.connect() as connection:
            connection.execute(text("insert into article values (7777, 'Garden bench')"))
        until(lambda: any(row[0] == 7777 for row in rows(subscriber)) and is_drained(subscriber, shop))
    assert differences(subscriber, shop.index) == 0


def workers(engine: Engine) -> int:
    with Session(engine) as session:
        return freshness(session, shop.index).workers
