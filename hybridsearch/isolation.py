"""Find the rows that work on many rows fails at: by halves, each tried under a savepoint and taken back.

culprits(session, keys, lambda some: index(session, some))      # {(17,): DataError(...)}
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from hybridsearch.errors import HybridSearchError

K = TypeVar("K")

# Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html. The others are of connections, locks,
# resources, names.
VALUES = ("21", "22", "54")  # of what a row holds, and limits
UNSURE = (
    "23",
    "38",
    "39",
    "P0",
    "XX",
)  # integrity, functions, internal: of a row (a damaged page), or of what reads it
USED_UP = "2200H"  # of a sequence: no row's fault


def is_of_data(error: Exception) -> bool:
    """Return whether an error may be of one row alone: of what it holds, in the database, the driver or in Python."""
    if isinstance(error, DBAPIError):
        code = _code_of(error)
        known = code[:2] in VALUES + UNSURE if code else isinstance(error, DataError)  # the driver's own has no code
        return known and code != USED_UP and not error.connection_invalidated
    return not isinstance(error, SQLAlchemyError | HybridSearchError | OSError | MemoryError)


def is_unsure(error: Exception) -> bool:
    """Return whether such an error may as well be of what reads the rows: then it comes at every row."""
    return isinstance(error, DBAPIError) and _code_of(error)[:2] in UNSURE


def _code_of(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def culprits(session: Session, keys: Sequence[K], work: Callable[[Sequence[K]], object]) -> dict[K, Exception]:
    """Return the keys that the work fails at by themselves, with the errors; nothing of what it does stays.

    Raises errors that are not of the data.
    """
    savepoint = session.begin_nested()
    try:
        work(keys)
        return {}
    except Exception as error:
        if not is_of_data(error):
            raise
        if len(keys) == 1:
            return {keys[0]: error}
    finally:
        savepoint.rollback()
    middle = len(keys) // 2
    return culprits(session, keys[:middle], work) | culprits(session, keys[middle:], work)


def said_of(error: Exception) -> str:
    """Return the kind of an error, and the first line of what it says."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
