"""One way to a session, whatever the caller holds: a Session, a Connection, or their async forms.

with session_of(connection) as session: ...
await run_async(index, async_session, work)         # work(session or connection)
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from hybridsearch.database import connecting, explained
from hybridsearch.deadline import joining
from hybridsearch.model import SearchIndex

Result = TypeVar("Result")


@contextmanager
def session_of(connection: Session | Connection) -> Iterator[Session]:
    """Yield a session: the one given, or one on the connection, in whose transaction it takes part."""
    if isinstance(connection, Session):
        yield connection
        return
    with Session(connection, join_transaction_mode="rollback_only") as session:
        yield session


async def run_async(
    index: SearchIndex, connection: AsyncSession | AsyncConnection, work: Callable[[Session | Connection], Result]
) -> Result:
    """Do synchronous work on an async session or connection.

    The event loop goes on while the work waits for the database, or for a call that has a limit of time.
    """
    if isinstance(connection, AsyncSession):
        with explained(index), connecting():
            await connection.connection(bind_arguments={"mapper": index.mapper})

    def awaited(opened: Any) -> Result:
        with joining(lambda thread, seconds: await_only(asyncio.to_thread(thread.join, seconds))):
            return work(opened)

    return await connection.run_sync(awaited)
