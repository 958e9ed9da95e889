"""Encode the queries of those who have no encoder: people at a SQL prompt, other languages, article_search.

    with answering(engine, [articles]):         # a thread, for as long as the block runs
        ...

The database leaves requests in a table and says so by NOTIFY; the answers go to the shared query cache, where every
process finds them. `hybridsearch worker` does this beside its other work.
"""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import psycopg
from sqlalchemy import Column, Connection, Engine, LargeBinary, MetaData, Table, Text, delete, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from hybridsearch.encoders import Encoder, checked
from hybridsearch.encoders.cache import one
from hybridsearch.encoding import work_of
from hybridsearch.errors import ConfigurationError, HybridSearchError
from hybridsearch.model import SearchIndex
from hybridsearch.query_cache import SHARED_SIZE, keep
from hybridsearch.routines import SCHEMA

logger = logging.getLogger(__name__)

CHANNEL = "hybridsearch_query"
POLL = 1.0  # seconds: requests whose notification was lost wait no longer
PAUSE = 1.0  # seconds before a lost connection is opened again

requested = Table(
    "encoding_request",
    MetaData(schema=SCHEMA),
    Column("fingerprint", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("query", Text, nullable=False),
)


@contextmanager
def answering(engine: Engine, indexes: Iterable[SearchIndex]) -> Iterator[None]:
    """Answer requests for the indexes' encoders in a thread, until the block ends.

    `engine` has to use psycopg; one of its connections is held. Raises ConfigurationError for another driver.
    """
    if engine.driver != "psycopg":
        raise ConfigurationError(f"requests are answered through psycopg: the engine uses {engine.driver}")
    encoders = {index.encoder.fingerprint: index.encoder for index in indexes}
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(engine, encoders, stop), name="hybridsearch-queries", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)  # no longer, where its connection does not answer


def _run(engine: Engine, encoders: Mapping[str, Encoder], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                try:
                    _serve(connection, encoders, stop)
                finally:
                    # It listens and holds locks: no connection for a pool.
                    connection.invalidate()
        except (SQLAlchemyError, psycopg.Error) as error:
            logger.warning("queries are not encoded for SQL: %s", str(error).splitlines()[0])
            stop.wait(PAUSE)


def _serve(connection: Connection, encoders: Mapping[str, Encoder], stop: threading.Event) -> None:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    connection.execute(text(f"listen {CHANNEL}"))
    for fingerprint in encoders:
        half = func.hybridsearch.answering_lock()
        connection.execute(select(func.pg_advisory_lock_shared(half, func.hashtext(fingerprint))))
    while not stop.is_set():
        answer(connection, encoders)
        for _ in driver.notifies(timeout=POLL / 5, stop_after=1):
            pass


def answer(connection: Connection, encoders: Mapping[str, Encoder], *, shared_size: int = SHARED_SIZE) -> int:
    """Encode what is requested of these encoders, by fingerprint; return how many queries.

    The encodings go to the table of `hybridsearch.query_cache`, which holds the `shared_size` used last.
    """
    waiting: dict[str, list[tuple[bytes, str]]] = defaultdict(list)
    taken = delete(requested).where(requested.c.fingerprint.in_(encoders)).returning(*requested.c)
    for row in connection.execute(taken):
        waiting[row.fingerprint].append((row.digest, row.query))
    for fingerprint, queries in waiting.items():
        encoder = encoders[fingerprint]
        for digest, query in queries:  # one by one: a query that cannot be encoded spoils no other
            try:
                with work_of(encoder):
                    encoding = one(checked(encoder, encoder.encode_queries([query]), 1))
            except HybridSearchError as error:
                logger.warning("a requested query cannot be encoded: %s", error)
                continue
            keep(connection, fingerprint, digest, encoding, shared_size=shared_size)
    return sum(map(len, waiting.values()))
