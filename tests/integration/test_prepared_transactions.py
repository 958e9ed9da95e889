"""Writers whose transactions are prepared, as by XA: PostgreSQL refuses that to one that has notified anybody."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from hybridsearch.schema import migrate
from hybridsearch.worker import Worker, running
from tests.support.afresh import differences
from tests.support.crash import mortal_server
from tests.support.models import articles, fill
from tests.support.workers import is_drained, until

STATEMENTS = (
    "insert into article values (9, 'Purple sofa', null)",
    "update article set title = 'Green table' where id = 2",
    "update article set id = 10 where id = 1",
    "delete from article where id = 3",
)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """On a server that allows prepared transactions: it reads that when it starts."""
    with mortal_server() as server:
        engine = create_engine(server.address)
        with autocommit(engine) as connection:
            connection.execute(text("alter system set max_prepared_transactions = 4"))
        engine.dispose()
        server.kill()
        server.restart()
        with engine.begin() as connection:
            migrate(connection)
        yield engine
        engine.dispose()


def autocommit(engine: Engine) -> Connection:
    return engine.execution_options(isolation_level="AUTOCOMMIT").connect()


def prepare(engine: Engine, *statements: str) -> None:
    """Write in one transaction, and leave it prepared."""
    with autocommit(engine) as connection:
        for statement in ("begin", *statements, "prepare transaction 'writers'"):
            connection.execute(text(statement))


def test_a_transaction_that_does_not_notify_is_prepared_and_workers_find_what_it_wrote(engine: Engine) -> None:
    shop = articles()
    fill(engine, shop)
    with running(engine, [shop.index], poll=0.2):
        until(lambda: is_drained(engine, shop))
        with pytest.raises(DBAPIError, match="cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or N"):
            prepare(engine, STATEMENTS[0])
        for statement in STATEMENTS:
            prepare(engine, "set local hybridsearch.notify = off", statement)
            assert is_drained(engine, shop)
            with autocommit(engine) as connection:
                connection.execute(text("commit prepared 'writers'"))
            until(lambda: is_drained(engine, shop))
    with autocommit(engine) as connection:
        connection.execute(text("alter database postgres set hybridsearch.notify = off"))
    engine.dispose()
    prepare(engine, "truncate article", STATEMENTS[0])
    with autocommit(engine) as connection:
        connection.execute(text("commit prepared 'writers'"))
    Worker(engine, [shop.index]).once()
    assert differences(engine, shop.index) == 0
