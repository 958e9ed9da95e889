"""What the server says when it cannot serve us, as errors of this library.

    with explained(index):
        session.execute(...)

An error that is not about us passes unchanged: it is the caller's own.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, OperationalError, SQLAlchemyError

from hybridsearch.errors import (
    DatabaseError,
    EncoderMismatch,
    ExtensionMissing,
    QueryError,
    SchemaMissing,
    ServerUnreachable,
)
from hybridsearch.model import SearchIndex

# https://www.postgresql.org/docs/current/errcodes-appendix.html
MISSING = {"42P01", "42883", "3F000", "42703"}  # table, function, schema, column
UNDEFINED_COLUMN = "42703"
UNDEFINED_OBJECT = "42704"
WRONG_DIMENSIONS = "22000"
NOT_ALLOWED = "42501"
DISK_FULL = "53100"
NOT_A_CHARACTER = "22021"
HALF = "a value of a condition holds half a surrogate pair, which no text in PostgreSQL can: remove it"
UNREACHABLE = {"08", "28"}  # connection, authorization
NOT_SERVING = {"57P01", "57P02", "57P03", "3D000"}  # shutting down, crashed, starting, no such database
VECTOR_OBJECTS = ("vector", "halfvec", "sparsevec", "halfvec_cosine_ops")


@contextmanager
def explained(index: SearchIndex | None = None) -> Iterator[None]:
    """Turn the server's errors that are about us into errors that say what to do; let the others pass."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise QueryError(HALF) from error
    except DBAPIError as error:
        ours = _unsendable(error) or _ours(error, index)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def connecting() -> Iterator[None]:
    """Turn what a driver raises while it connects into ServerUnreachable.

    asyncpg raises its own there, and OSError; SQLAlchemy lets both through.
    """
    try:
        yield
    except SQLAlchemyError:
        raise
    except Exception as error:
        raise _unreachable(_said(error)) from error


def _unsendable(error: DBAPIError) -> QueryError | None:
    """What the driver refuses to send, or the server to read."""
    said = _said(error.orig)
    if re.search("number of (parameters|query arguments)", said):
        return QueryError(f"{said}: give the values of a condition as one array, by any_(), not by in_()")
    if "surrogates not allowed" in said:
        return QueryError(HALF)
    if "cannot contain NUL" in said or getattr(error.orig, "sqlstate", None) == NOT_A_CHARACTER:
        return QueryError(f"a value of a condition holds a NUL, which no text in PostgreSQL can ({said}): remove it")
    return None


def _said(error: BaseException | None) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _unreachable(said: str) -> ServerUnreachable:
    return ServerUnreachable(
        f"the PostgreSQL server cannot be reached: {said}. Check DATABASE_URL, and that the server runs"
    )


def _ours(error: DBAPIError, index: SearchIndex | None) -> Exception | None:
    said, code = _said(error.orig), getattr(error.orig, "sqlstate", None) or ""
    # psycopg gives no code for what happens before there is a connection, nor does SQLAlchemy a statement; nor is
    # there one for a value that it cannot read, as a date of infinity.
    no_connection = (
        not code
        and not isinstance(error, DataError)
        and (error.statement is None or isinstance(error, OperationalError))
    )
    if no_connection or code[:2] in UNREACHABLE or code in NOT_SERVING:
        return _unreachable(said)
    if code == UNDEFINED_OBJECT and any(f'"{name}"' in said for name in VECTOR_OBJECTS):
        return ExtensionMissing(f"this database has no pgvector 0.7 or later ({said}): run `hybridsearch migrate`")
    if code == UNDEFINED_OBJECT and '"bm25"' in said:
        return ExtensionMissing(f"this database has no pg_textsearch ({said}): `create extension pg_textsearch`")
    if code == UNDEFINED_OBJECT and "text search configuration" in said:
        return DatabaseError(f"{said}: `select cfgname from pg_ts_config` lists those of this database")
    if code in MISSING and "hybridsearch" in said:
        return SchemaMissing(f"the schema of hybridsearch is missing or old ({said}): run `hybridsearch migrate`")
    if code == UNDEFINED_COLUMN and index is not None and not _is_ours(said, index):
        return QueryError(f"{said}: a condition or an expression of the search names it; name a column of the model")
    if code in MISSING and index is not None and (index.name in said or index.table.name in said):
        return SchemaMissing(
            f'the tables or functions of index "{index.name}" are missing or old ({said}): run your own migration, '
            f"`alembic upgrade head`, and `hybridsearch migrate`"
        )
    if code == WRONG_DIMENSIONS and index is not None and "dimensions" in said:
        return EncoderMismatch(
            f'index "{index.name}": the column and encoder "{index.encoder.name}" ({index.storage.dimensions} '
            f"dimensions) differ ({said}): migrate the column and reindex, or choose another encoder"
        )
    if code == NOT_ALLOWED:
        return DatabaseError(f"the role may not do this ({said}): grant it, or connect as a role that may")
    if code == DISK_FULL:
        return DatabaseError(f"the server's disk is full ({said}): nothing of this transaction was written")
    return None


def _is_ours(said: str, index: SearchIndex) -> bool:
    """Whether a missing column is declared, in the model or in a companion: then the database is behind."""
    declared = (column.name for table in (index.table, *index.tables) for column in table.c)
    return any(re.search(rf'[ ."]{re.escape(name)}"? ', said) for name in declared)
