"""What the server says when it cannot serve us, as errors of this library.

    with explained(index):
        session.execute(...)

An error that is not about us passes unchanged: it is the caller's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError

from hybridsearch.errors import DatabaseError, EncoderMismatch, ExtensionMissing, SchemaMissing, ServerUnreachable
from hybridsearch.model import SearchIndex

# https://www.postgresql.org/docs/current/errcodes-appendix.html
MISSING = {"42P01", "42883", "3F000", "42703"}  # table, function, schema, column
UNDEFINED_OBJECT = "42704"
WRONG_DIMENSIONS = "22000"
DISK_FULL = "53100"
UNREACHABLE = {"08", "28"}  # connection, authorization
NOT_SERVING = {"57P01", "57P02", "57P03", "3D000"}  # shutting down, crashed, starting, no such database
VECTOR_OBJECTS = ("vector", "halfvec", "sparsevec", "halfvec_cosine_ops")


@contextmanager
def explained(index: SearchIndex | None = None) -> Iterator[None]:
    """Turn the server's errors that are about us into errors that say what to do; let the others pass."""
    try:
        yield
    except DBAPIError as error:
        ours = _ours(error, index)
        if ours is None:
            raise
        raise ours from error


def _ours(error: DBAPIError, index: SearchIndex | None) -> Exception | None:
    said = (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]
    code = getattr(error.orig, "sqlstate", None) or ""
    if code[:2] in UNREACHABLE or code in NOT_SERVING or (not code and isinstance(error, OperationalError)):
        return ServerUnreachable(
            f"the PostgreSQL server cannot be reached: {said}. Check DATABASE_URL, and that the server runs"
        )
    if code == UNDEFINED_OBJECT and any(f'"{name}"' in said for name in VECTOR_OBJECTS):
        return ExtensionMissing(f"this database has no pgvector 0.7 or later ({said}): run `hybridsearch migrate`")
    if code in MISSING and "hybridsearch" in said:
        return SchemaMissing(f"the schema of hybridsearch is missing or old ({said}): run `hybridsearch migrate`")
    if code in MISSING and index is not None and any(table.name in said for table in index.tables):
        return SchemaMissing(
            f'the tables of index "{index.name}" are missing or old ({said}): run your own migration, '
            f"`alembic upgrade head`"
        )
    if code == WRONG_DIMENSIONS and index is not None and "dimensions" in said:
        return EncoderMismatch(
            f'index "{index.name}": the column and encoder "{index.encoder.name}" ({index.encoder.dimensions} '
            f"dimensions) differ ({said}): migrate the column and reindex, or choose another encoder"
        )
    if code == DISK_FULL:
        return DatabaseError(f"the server's disk is full ({said}): nothing of this transaction was written")
    return None
