"""Encodings of queries that processes share: a table of our schema, behind the LRU of each process.

    store = SharedStore(engine)
    HybridSearch(articles, store=store)     # a query that any process has encoded costs no encoding here

Reads and writes go over connections of the engine given, in transactions of their own: a search in a read-only
transaction or on a replica is not touched by them. A cache that cannot be reached is no error: the query is encoded.
"""

import hashlib
import logging
import random
from typing import Any

import numpy as np
from sqlalchemy import (
    REAL,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.exc import SQLAlchemyError

from hybridsearch.encoders.cache import LRU, QueryEncoding
from hybridsearch.routines import SCHEMA

logger = logging.getLogger(__name__)

SHARED_SIZE = 100_000  # encodings that the table holds, where nothing else is said

encodings = Table(
    "query_encoding",
    MetaData(schema=SCHEMA),
    Column("fingerprint", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("dense", ARRAY(REAL), nullable=False),
    Column("sparse_ids", ARRAY(Integer)),
    Column("sparse_weights", ARRAY(REAL)),
    Column("used_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


class SharedStore(LRU):
    """An LRU of `size` query encodings over a table that holds the `shared_size` used last by any process."""

    def __init__(self, engine: Engine, *, size: int = 1024, shared_size: int = SHARED_SIZE) -> None:
        super().__init__(size)
        self._engine = engine
        self._shared_size = shared_size

    def get(self, fingerprint: str, text: str) -> QueryEncoding | None:
        """Return the encoding from the process, else from the table, or None."""
        found = super().get(fingerprint, text)
        if found is None:
            try:
                found = self._read(fingerprint, digest_of(text))
            except SQLAlchemyError as error:
                logger.warning("the shared query cache cannot be read: %s", type(error).__name__)
            if found is not None:
                super().put(fingerprint, text, found)
        return found

    def put(self, fingerprint: str, text: str, encoding: QueryEncoding) -> None:
        """Keep the encoding in the process and in the table."""
        super().put(fingerprint, text, encoding)
        try:
            self._write(fingerprint, digest_of(text), encoding)
        except SQLAlchemyError as error:
            logger.warning("the shared query cache cannot be written: %s", type(error).__name__)

    def _read(self, fingerprint: str, digest: bytes) -> QueryEncoding | None:
        same = (encodings.c.fingerprint == fingerprint) & (encodings.c.digest == digest)
        with self._engine.begin() as connection:
            row = connection.execute(select(encodings).where(same)).one_or_none()
            if row is not None and not connection.scalar(select(func.pg_is_in_recovery())):
                connection.execute(update(encodings).where(same).values(used_at=func.now()))
        if row is None:
            return None
        dense = np.array(row.dense, dtype=np.float32)
        dense.setflags(write=False)
        sparse = None if row.sparse_ids is None else dict(zip(row.sparse_ids, row.sparse_weights, strict=True))
        return QueryEncoding(dense, sparse)

    def _write(self, fingerprint: str, digest: bytes, encoding: QueryEncoding) -> None:
        with self._engine.begin() as connection:
            keep(connection, fingerprint, digest, encoding, shared_size=self._shared_size)


def keep(
    connection: Connection, fingerprint: str, digest: bytes, encoding: QueryEncoding, *, shared_size: int = SHARED_SIZE
) -> None:
    """Put an encoding into the table, and now and then take out what is beyond its size, the longest unused first."""
    values: dict[str, Any] = {"dense": encoding.dense.tolist()}
    if encoding.sparse is not None:
        values |= {"sparse_ids": list(encoding.sparse), "sparse_weights": list(encoding.sparse.values())}
    made = insert(encodings).values(fingerprint=fingerprint, digest=digest, **values)
    connection.execute(made.on_conflict_do_nothing())
    # Counting the newest is a scan of them: once in a while is enough, and the bound is passed by little.
    if random.random() < 10 / shared_size:
        newest = select(encodings.c.used_at).order_by(encodings.c.used_at.desc())
        last = newest.offset(shared_size - 1).limit(1).scalar_subquery()  # null while all fit
        connection.execute(delete(encodings).where(encodings.c.used_at < last))


def digest_of(text: str) -> bytes:
    """Return what a query is known by in the table: its SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
