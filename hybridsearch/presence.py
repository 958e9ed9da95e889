"""A worker is there as long as its session is: an advisory lock says so, which ends with the session however it ends.

with present(engine) as presence:
    claim(session, articles, worker=presence.worker, limits=Limits())
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    MetaData,
    ScalarSelect,
    SmallInteger,
    Table,
    Text,
    and_,
    cast,
    exists,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.exc import DBAPIError

PRESENCE = 0x68796270  # "hybp": the class of these locks

_catalog = MetaData(schema="pg_catalog")
_locks = Table(
    "pg_locks",
    _catalog,
    Column("locktype", Text),
    Column("database", OID),
    Column("classid", OID),
    Column("objid", OID),
    Column("objsubid", SmallInteger),
    Column("granted", Boolean),
)
_databases = Table("pg_database", _catalog, Column("oid", OID), Column("datname", Text))


@dataclass(frozen=True)
class Presence:
    """A worker's number, and the connection whose session stands for it."""

    worker: int
    connection: Connection

    def confirm(self) -> None:
        """Raise an error of the database where the session is lost."""
        self.connection.scalar(select(1))


@contextmanager
def present(engine: Engine) -> Iterator[Presence]:
    """Hold a connection of one's own open, with the lock by which the worker is known."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.detach()  # back in a pool, the session and its lock would live on
        while True:
            worker = random.randrange(1, 2**31)
            if connection.scalar(select(func.pg_try_advisory_lock(PRESENCE, worker))):
                break
        yield Presence(worker, connection)
        with suppress(DBAPIError):  # of a session that is lost
            connection.execute(select(func.pg_advisory_unlock_all()))  # the server takes its time over a session's end


def is_present(worker: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a worker, by its number, is connected to the database."""
    return exists().where(_presence(), cast(_locks.c.objid, BigInteger) == worker)


def present_workers() -> ScalarSelect[int]:
    """Return an expression: how many workers are connected to the database."""
    return select(func.count()).select_from(_locks).where(_presence()).scalar_subquery()


def _presence() -> ColumnElement[bool]:
    """The condition that a lock is a worker's, in this database."""
    here = select(_databases.c.oid).where(_databases.c.datname == func.current_database()).scalar_subquery()
    return and_(
        _locks.c.locktype == "advisory",
        _locks.c.database == here,
        _locks.c.classid == cast(PRESENCE, OID),
        _locks.c.objsubid == 2,
        _locks.c.granted,
    )
