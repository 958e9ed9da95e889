"""One way to a session, whatever the caller holds: a Session, a Connection, or their async forms.

with session_of(connection) as session: ...
await run_async(index, async_session, work)         # work(session or connection)
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from hybridsearch.database import connecting, explained
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
    """Do synchronous work on an async session or connection; the event loop goes on."""
    if isinstance(connection, AsyncSession):
        with explained(index), connecting():
            await connection.connection(bind_arguments={"mapper": index.mapper})
    run: Callable[..., Result] = work
    return await connection.run_sync(run)
