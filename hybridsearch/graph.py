"""The HNSW graph over the chunks: built after a large first load, which is faster than letting it grow row by row.

    loading(connection, articles)               # for as long as the connection is there, no worker builds it
    if postpone(session, articles): ...         # commit, fill the chunks
    build(engine, articles)                     # beside writers and searches

A load that stops in between leaves no graph, and searches compare all chunks: `state` says so. The next `hybridsearch
index` builds it, or a worker whose role owns the chunks.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Engine, case, exists, func, literal, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateIndex, DropIndex

from hybridsearch.database import explained
from hybridsearch.model import SearchIndex
from hybridsearch.state import lock, lock_key

State = Literal["valid", "building", "unfinished", "missing"]

WORTH = 10_000  # rows: below, a graph that grows costs seconds
LOADS, BUILDS = "load", "graph"  # kinds of work, which a session holds a lock for
PATIENCE = "2s"  # for the lock; somebody searches all the time where it takes longer


@dataclass(frozen=True)
class Estimate:
    """What building a graph takes: `vectors` in it, `bytes` of memory, and `memory`, maintenance_work_mem, in bytes."""

    vectors: int
    bytes: int
    memory: int

    @property
    def fits(self) -> bool:
        """Whether the graph is built in memory; where not, the build is many times slower."""
        return self.bytes <= self.memory


def postpone(session: Session, index: SearchIndex) -> bool:
    """Drop the graph of an index that has no chunks yet, if its table has many rows; return whether that was done.

    Nothing is done by a role that does not own the chunks, or while others use them.
    """
    rows = select(literal(1)).select_from(index.table).limit(WORTH).subquery()
    if session.scalar(select(exists(select(index.chunks.c.id)))) or not _is_owner(session, index):
        return False
    if (session.scalar(select(func.count()).select_from(rows)) or 0) < WORTH or _is_missing(session, index):
        return False
    former = session.scalar(select(func.current_setting("lock_timeout")))
    session.execute(select(func.set_config("lock_timeout", PATIENCE, True)))
    try:
        with session.begin_nested():
            session.execute(DropIndex(_graph(index)))
    except OperationalError:
        return False
    finally:
        session.execute(select(func.set_config("lock_timeout", former, True)))
    return True


def unbuilt(session: Session, index: SearchIndex) -> Estimate | None:
    """Return what the build of a missing graph takes; None where there is one, or the role may not build it."""
    if not _is_missing(session, index) or not _is_owner(session, index):
        return None
    return estimate(session, index)


def expected(session: Session, index: SearchIndex) -> Estimate:
    """Return what a build takes, at least, when every row has been encoded: one vector a row."""
    return _estimate(session, index, session.scalar(select(func.count()).select_from(index.table)) or 0)


def estimate(session: Session, index: SearchIndex) -> Estimate:
    """Return what a build of the chunks that are there takes."""
    return _estimate(session, index, session.scalar(select(func.count()).select_from(index.chunks)) or 0)


def _estimate(session: Session, index: SearchIndex, vectors: int) -> Estimate:
    """Add up the vectors, and each node's links on its levels, as pgvector keeps them."""
    dimensions, m = index.storage.dimensions, index.hnsw.m
    vector = {"halfvec": 8 + 2 * dimensions, "vector": 8 + 4 * dimensions, "bit": 8 + dimensions // 8}
    # 16 bytes a link: 2 m on the lowest level, m on each of the m / (m - 1) - 1 levels that a node has above it.
    links = 16 * (2 * m + m / (m - 1))
    memory = session.scalar(text("select pg_size_bytes(current_setting('maintenance_work_mem'))")) or 0
    return Estimate(vectors, int(vectors * (vector[index.storage.kind] + links + NODE)), memory)


NODE = 128  # bytes of a node of a graph in memory, beside vector and links


def state(session: Session, index: SearchIndex) -> State:
    """Return whether the chunks have their graph: where it is not "valid", searches compare all of them.

    It is "building" now, or a build was left "unfinished", or there is none.
    """
    found = session.scalar(_VALIDITY, _place(session, index))
    if found:
        return "valid"
    key = lock_key(index, BUILDS)
    # Given back at once, whatever becomes of the transaction: it keeps builders away.
    if not session.scalar(select(case((func.pg_try_advisory_lock_shared(key), func.pg_advisory_unlock_shared(key))))):
        return "building"
    return "missing" if found is None else "unfinished"


def loading(connection: Connection, index: SearchIndex) -> None:
    """Let everybody know, until the connection is closed, that the index is being filled: its graph can wait."""
    connection.execute(select(func.pg_advisory_lock_shared(lock_key(index, LOADS))))


def abandoned(session: Session, index: SearchIndex) -> Estimate | None:
    """Return what `unbuilt` does; None as well where somebody fills the index, and is going to build the graph.

    Also where less than half of the rows have vectors: the load has to go on, which is faster without the graph.
    """
    if not lock(session, index, LOADS, wait=False) or (graph := unbuilt(session, index)) is None:
        return None
    rows = select(func.count()).select_from(index.table).scalar_subquery()
    encoded = select(func.count(index.documents.c.encoded_at)).scalar_subquery()
    return graph if session.scalar(select(2 * encoded >= rows)) else None


def build(
    engine: Engine, index: SearchIndex, *, during: Callable[[Connection], AbstractContextManager[object]] = nullcontext
) -> bool:
    """Build the graph of the chunks, beside writers and searches; what a build that failed has left goes first.

    Return whether it is there then: False, with nothing done, where somebody else is building it. `during` is entered
    with the connection while it works.
    """
    with explained(index), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # with its lock, and its settings
        if not connection.scalar(select(func.pg_try_advisory_lock(lock_key(index, BUILDS)))):
            return False
        if _is_missing(Session(connection), index):
            # It waits for the transactions that are open, however long.
            connection.execute(select(func.set_config("lock_timeout", "0", False)))
            with during(connection):
                _create_beside(connection, _graph(index))
        # The server takes its time over the end of a session, and whoever comes next would be told of a builder.
        connection.execute(select(func.pg_advisory_unlock(lock_key(index, BUILDS))))
    return True


def _create_beside(connection: Connection, graph: Any) -> None:
    quoted = connection.dialect.identifier_preparer
    schema = f"{quoted.quote_schema(graph.table.schema)}." if graph.table.schema else ""
    create = str(CreateIndex(graph).compile(dialect=connection.dialect))
    connection.exec_driver_sql(f"drop index concurrently if exists {schema}{quoted.format_index(graph)}")
    connection.exec_driver_sql(create.replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY", 1))


def _graph(index: SearchIndex) -> Any:
    (graph,) = index.chunks.indexes
    return graph


def _is_missing(session: Session, index: SearchIndex) -> bool:
    """Whether the chunks have no graph, or one whose build has failed."""
    return not session.scalar(_VALIDITY, _place(session, index))


def _is_owner(session: Session, index: SearchIndex) -> bool:
    return bool(session.scalar(_IS_OWNER, _place(session, index)))


def _place(session: Session, index: SearchIndex) -> dict[str, Any]:
    quoted = session.get_bind().dialect.identifier_preparer
    return {"chunks": quoted.format_table(index.chunks), "name": _graph(index).name}


_IS_OWNER = text("select pg_has_role(relowner, 'USAGE') from pg_catalog.pg_class where oid = to_regclass(:chunks)")
_VALIDITY = text("""
    select graph.indisvalid
    from pg_catalog.pg_index as graph
    join pg_catalog.pg_class as class on class.oid = graph.indexrelid
    where graph.indrelid = to_regclass(:chunks) and class.relname = :name
""")
