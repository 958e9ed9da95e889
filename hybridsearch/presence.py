"""A worker is there as long as its session is: an advisory lock says so, which ends with the session however it ends.

with present(engine) as worker:     # 1804289383
    claim(session, articles, worker=worker, limits=Limits())
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, func, select

from hybridsearch.queue import PRESENCE


@contextmanager
def present(engine: Engine) -> Iterator[int]:
    """Hold a connection of one's own open, and yield the number that its lock makes known."""
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.detach()  # back in a pool, the session and its lock would live on
        yield announce(connection)


def announce(connection: Connection) -> int:
    """Take a worker's number for the session of this connection."""
    while True:
        worker = random.randrange(1, 2**31)
        if connection.scalar(select(func.pg_try_advisory_lock(PRESENCE, worker))):
            return worker
