"""A worker is there as long as its session is: an advisory lock says so, which ends with the session however it ends.

with present(engine) as presence:
    claim(session, articles, worker=presence.worker, limits=Limits())
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select

from hybridsearch.queue import PRESENCE


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
