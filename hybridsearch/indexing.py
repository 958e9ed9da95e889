"""Bring an index in line with its table, in the caller's session: what is queued, or every row.

    refresh(session, articles)                      # what the triggers have noted: no process of its own is needed
    for page in index_rows(session, articles):      # every row; commit after each page, or at the end
        session.commit()

Rows are read by key, so memory holds one page. A row whose content hash has not changed costs one comparison in SQL.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, delete, exists, func, literal, or_, select, text, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from hybridsearch.changes import note, note_gone, notify
from hybridsearch.content import Key, content_hash
from hybridsearch.engines import engine_of
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.queue import Limits
from hybridsearch.stages import step_upkeep, step_vectors, step_words
from hybridsearch.state import forget_encoder, lock, register_encoder

PAGE = 256
HERE = 0  # the worker that is no process: its claims end with the caller's transaction


class _OfTable(ExecutableDDLElement):
    def __init__(self, table: Table) -> None:
        self.table = table


class Analyze(_OfTable):
    """ANALYZE of one table."""


class Lock(_OfTable):
    """LOCK of one table, in the mode in which it can be read, and no row of it written or locked."""


@compiles(Analyze)
def _compile_analyze(element: Analyze, compiler: DDLCompiler, **options: Any) -> str:
    return f"ANALYZE {compiler.preparer.format_table(element.table)}"


@compiles(Lock)
def _compile_lock(element: Lock, compiler: DDLCompiler, **options: Any) -> str:
    return f"LOCK TABLE {compiler.preparer.format_table(element.table)} IN EXCLUSIVE MODE"


def refresh(session: Session, index: SearchIndex, *, limits: Limits | None = None) -> Page:
    """Index what has changed, in the caller's transaction; return what was done.

    Rows that a worker has claimed are left to it. Raises EncoderMismatch if the index was filled by another encoder,
    EncoderError where the encoder fails at everything.
    """
    session.flush()
    prepare(session, index)
    total = Page()
    for page in _drained(session, index, limits or Limits()):
        total += page
    return total


def index_rows(session: Session, index: SearchIndex, *, page_size: int = PAGE) -> Iterator[Page]:
    """Index every row that is new or changed, then drop what has no row any more; yield after each page.

    The caller commits, after each page (then a stopped run goes on where it was) or at the end. Raises as `refresh`.
    """
    limits = Limits(batch=page_size)
    prepare(session, index)
    yield from _drained(session, index, limits)
    for page in compare(session, index, page_size=page_size):
        yield page
        prepare(session, index)
        yield from _drained(session, index, limits)


def prepare(session: Session, index: SearchIndex) -> None:
    """Make the index ready to be filled by its encoder; raise EncoderMismatch if it was filled by another one."""
    engine_of(index).prepare(session, index)
    register_encoder(session, index)


def compare(session: Session, index: SearchIndex, *, page_size: int = PAGE) -> Iterator[Page]:
    """Note as changed every row whose index is missing or of another content, and what has no row; yield per page.

    The caller commits after each page. Rows that are queued or set aside are left as they are.
    """
    after: Key | None = None
    while rows := session.execute(_page(index, after, page_size)).all():
        after = tuple(rows[-1][:-1])
        if keys := [tuple(row[:-1]) for row in rows if not row[-1]]:
            note(session, index, keys)
            notify(session, index)
        yield Page(read=len(rows))
    if note_gone(session, index):
        notify(session, index)
    yield Page()


def _drained(session: Session, index: SearchIndex, limits: Limits) -> Iterator[Page]:
    """Do what there is to do; yield after each step, an empty page for one of upkeep."""

    def begin() -> nullcontext[Session]:
        return nullcontext(session)

    while (page := step_words(begin, index, wait=True)) is not None:
        yield Page(removed=page.removed)
    while (page := step_vectors(begin, index, worker=HERE, limits=limits)) is not None:
        yield page
    while step_upkeep(begin, index):
        yield Page()


def clear(session: Session, index: SearchIndex) -> None:
    """Empty the index, so that it can be filled anew, by another encoder too (of the same dimensions).

    Its numbers begin again where the role owns the tables; who numbers documents meanwhile waits for the commit.
    """
    lock(session, index, "words")
    forget_encoder(
        session, index
    )  # first, as whoever writes vectors holds it first: neither waits for the other in turn
    session.execute(Lock(index.queue))  # whose rows, and those of the chunks, others lock in an order of their own
    session.execute(Lock(index.chunks))
    for table in reversed(index.tables):
        session.execute(delete(table))
    quoted = session.get_bind().dialect.identifier_preparer.format_table
    numbered = [(quoted(table), column.name) for table in index.tables for column in table.columns if column.identity]
    tables, columns = map(list, zip(*numbered, strict=True))
    for statement in session.scalars(_RESTARTS, {"tables": tables, "columns": columns}).all():
        session.connection().exec_driver_sql(statement, execution_options={"no_parameters": True})


# Not setval, which a rollback would not undo.
_RESTARTS = text("""
    select format('alter sequence %s restart', sequence.oid::regclass)
    from unnest(cast(:tables as text[]), cast(:columns as text[])) as given(name, number)
    join pg_catalog.pg_class as sequence on sequence.oid = to_regclass(pg_get_serial_sequence(given.name, given.number))
    where pg_has_role(sequence.relowner, 'USAGE')
""")


def analyze(session: Session, index: SearchIndex) -> None:
    """Refresh the planner's statistics of the companion tables: after a bulk load it would plan for empty ones."""
    for table in index.tables:
        session.execute(Analyze(table))


def count_rows(session: Session, index: SearchIndex) -> int:
    """Return the number of rows of the model's table: what an indexing run will read."""
    return session.scalar(select(func.count()).select_from(index.table)) or 0


def _page(index: SearchIndex, after: Key | None, size: int) -> Select[Any]:
    """Rows in key order: key columns, and whether their index is as it should be, or is going to be."""
    documents = index.documents
    rows = select(*index.keys, _in_line(index).label("in_line")).join_from(
        index.table, documents, index.same_row(documents), isouter=True
    )
    if after is not None:
        rows = rows.where(
            tuple_(*index.keys)
            > tuple_(*(literal(value, key.type) for value, key in zip(after, index.keys, strict=True)))
        )
    return rows.order_by(*index.keys).limit(size)


def _in_line(index: SearchIndex) -> ColumnElement[bool]:
    documents, queue = index.documents, index.queue
    waits = exists(select(literal(1)).select_from(queue).where(index.same_row(queue)))
    same = and_(documents.c.hash.is_not(None), documents.c.hash == content_hash(index))
    return and_(same, or_(documents.c.encoded_at.is_not(None), waits))
