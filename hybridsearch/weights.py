"""Keep the index of the encoder's term weights: merge chunks into its postings, drop those of chunks that are gone.

    weigh(session, articles)            # commit, and again while it is not 0

Chunks wait in `<name>_unweighed`, which every query reads. The work is done by SQL functions of the index's own;
docs/sparse-engine.md has the format. Of an encoder without term weights there is nothing to do, and nothing is done.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Integer, and_, cast, func, insert, select
from sqlalchemy.orm import Session

from hybridsearch.lexical import routine
from hybridsearch.model import SearchIndex

BATCH = 100_000  # chunks that one step merges, at most
SPAN = 1_048_576  # numbers of pieces


def put(session: Session, index: SearchIndex, given: Any) -> None:
    """Let the chunks of documents, given as a FROM element of their keys, wait to be merged."""
    if not index.sparse_tables:
        return
    chunks = index.chunks
    same = and_(*(given.c[name] == chunks.c[name] for name in index.key_names))
    waiting = select(chunks.c.id).join_from(given, chunks, same).where(chunks.c.sparse.is_not(None))
    session.execute(insert(index.unweighed).from_select(["chunk"], waiting))


def waiting(session: Session, index: SearchIndex) -> int:
    """Return how many chunks wait to be merged: all there are, where nothing was ever merged."""
    if not index.sparse_tables:
        return 0
    if session.scalar(select(index.pieces.c.number).limit(1)) is None:
        return session.scalar(select(func.count(index.chunks.c.sparse))) or 0
    return session.scalar(select(func.count()).select_from(index.unweighed)) or 0


def count(session: Session, index: SearchIndex) -> int:
    """Return how many postings there are."""
    if not index.sparse_tables:
        return 0
    return int(session.scalar(select(func.coalesce(func.sum(index.weights.c.pieces), 0))) or 0)


def weigh(session: Session, index: SearchIndex, *, most: int = BATCH) -> int:
    """Merge at most so many chunks into the postings; return how many there were.

    The caller commits, and calls again until it is 0. One at a time merges; readers and writers go on.
    """
    if not index.sparse_tables:
        return 0
    return int(session.scalar(select(routine(index, "weigh", cast(most, Integer)))) or 0)


def spans(session: Session, index: SearchIndex) -> range:
    """Return the spans of the postings, of 1,048,576 numbers of pieces each."""
    if not index.sparse_tables:
        return range(0)
    last = session.scalar(select(func.max(index.pieces.c.number)))
    return range(0 if last is None else last // SPAN + 1)


def weigh_span_anew(session: Session, index: SearchIndex, span: int) -> int:
    """Drop from a span what belongs to chunks that are gone; return how many postings went. The caller commits.

    The chunks of ranges that are less than half full wait again, to be merged under new numbers.
    """
    return int(session.scalar(select(routine(index, "weigh_anew", cast(span, Integer)))) or 0)


def weigh_anew(session: Session, index: SearchIndex) -> Iterator[int]:
    """Do so with every span; yield how many postings went in each. The caller commits after each step."""
    for span in spans(session, index):
        yield weigh_span_anew(session, index, span)


def dead_share(session: Session, index: SearchIndex) -> float:
    """Return the share of the pieces whose chunks are gone, at least: those beyond the number of chunks."""
    if not index.sparse_tables:
        return 0.0
    pieces, chunks = (
        select(func.count()).select_from(table).scalar_subquery() for table in (index.pieces, index.chunks)
    )
    total, there = session.execute(select(pieces, chunks)).one()
    return max(0.0, 1 - there / total) if total else 0.0
