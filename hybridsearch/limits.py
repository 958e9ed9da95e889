"""Give statements a limit of time that ends with them: nothing of it stays in the session or in a pool.

    with limited(session, 0.2):
        session.execute(...)            # StatementTimeout after 0.2 s, and the transaction goes on

A savepoint around the statements takes back the setting and, when they were cancelled, the failure; in autocommit it
is a transaction. It holds in read-only transactions, on replicas, and through poolers that hand out transactions. For
statements that read: what they wrote would be taken back as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Float, case, cast, extract, func, literal, select
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch.errors import StatementTimeout

CANCELLED = "57014"


@contextmanager
def limited(session: Session, seconds: float | None) -> Iterator[None]:
    """Cancel each statement of the block that takes longer than `seconds`; a lower limit of the caller's stays."""
    if seconds is None:
        yield
        return
    if session.autoflush:
        session.flush()  # before the savepoint: what the caller has written is not taken back
    connection = session.connection()
    begin, undo, end = _statements(connection)
    connection.exec_driver_sql(begin)
    try:
        with session.no_autoflush:
            connection.execute(select(func.set_config("statement_timeout", _lowest(seconds), True)))
            yield
    except DBAPIError as error:
        if not error.connection_invalidated:
            _run(connection, undo, end)
        if getattr(error.orig, "sqlstate", None) == CANCELLED:
            raise StatementTimeout(f"no answer from the database within {seconds:.3g} s") from error
        raise
    except BaseException:
        _run(connection, undo, end)
        raise
    _run(connection, undo, end)


def _run(connection: Connection, *statements: str) -> None:
    for statement in filter(None, statements):
        connection.exec_driver_sql(statement)


def _statements(connection: Connection) -> tuple[str, str, str]:
    """What begins the block, takes it back, and ends it."""
    if getattr(connection.connection.dbapi_connection, "autocommit", False):
        return "begin", "rollback", ""
    name = "hybridsearch_limit"
    return f"savepoint {name}", f"rollback to savepoint {name}", f"release savepoint {name}"


def _lowest(seconds: float) -> object:
    """The limit in milliseconds, or the caller's if that is lower (0 is none)."""
    milliseconds = max(int(seconds * 1000), 1)
    set_already = func.current_setting("statement_timeout")
    theirs = cast(extract("epoch", cast(set_already, INTERVAL)), Float(53)) * 1000
    return case((theirs.between(0.001, milliseconds), set_already), else_=literal(str(milliseconds)))
