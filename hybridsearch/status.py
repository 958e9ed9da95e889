"""What an index holds, in figures.

status(session, articles).documents
"""

from dataclasses import dataclass

from sqlalchemy import Float, cast, func, select
from sqlalchemy.orm import Session

from hybridsearch import postings, weights
from hybridsearch.engines import engine_of
from hybridsearch.freshness import freshness
from hybridsearch.graph import State, state
from hybridsearch.indexing import count_rows
from hybridsearch.model import SearchIndex
from hybridsearch.state import filled, qualified_name


@dataclass(frozen=True)
class Status:
    """Counts of an index. `rows` stand in the model's table; `bytes` counts the companion tables with indexes.

    `blocks` are the rows of the postings; `pending` documents and removals wait to be merged into them; `dead` is the
    share of the postings that belongs to removed documents; `numbers` is the share of the documents' numbers that is
    used up: each new content takes one, `hybridsearch index --rebuild` begins again. `weights` are the postings of the
    encoder's term weights, `unweighed` chunks wait to be merged into them; `hnsw` is the state of the chunks' HNSW
    index. The rest is of `hybridsearch.freshness.Freshness`.
    """

    name: str
    encoder: str | None
    rows: int
    documents: int
    chunks: int
    terms: int
    blocks: int
    postings: int
    pending: int
    dead: float
    numbers: float
    weights: int
    unweighed: int
    average_length: float
    bytes: int
    changed: int
    words_behind: int
    queued: int
    retrying: int
    failed: int
    lag: float
    rate: float
    workers: int
    hnsw: State


def status(session: Session, index: SearchIndex) -> Status:
    """Count what the index holds. Reads the companion tables whole: for people and monitors, not for every request."""
    stored = engine_of(index).statistics(session, index)
    documents, average = session.execute(
        select(func.count(), func.coalesce(func.avg(cast(index.documents.c.length, Float(53))), 0.0)).select_from(
            index.documents
        )
    ).one()
    chunks = session.scalar(select(func.count()).select_from(index.chunks)) or 0
    quoted = session.get_bind().dialect.identifier_preparer.format_table
    size = sum(
        session.scalar(select(func.pg_total_relation_size(func.to_regclass(quoted(table))))) or 0
        for table in index.tables
    )
    behind = freshness(session, index)
    return Status(
        name=index.name,
        encoder=session.scalar(select(filled.c.fingerprint).where(filled.c.name == qualified_name(index))),
        rows=count_rows(session, index),
        documents=documents,
        chunks=chunks,
        terms=stored.terms,
        blocks=stored.blocks,
        postings=stored.postings,
        pending=stored.pending,
        dead=stored.dead / max(stored.postings, 1),
        numbers=postings.used(session, index),
        weights=weights.count(session, index),
        unweighed=weights.waiting(session, index),
        average_length=float(average),
        bytes=int(size),
        changed=behind.changed,
        words_behind=behind.words_behind,
        queued=behind.queued,
        retrying=behind.retrying,
        failed=behind.failed,
        lag=behind.lag,
        rate=behind.rate,
        workers=behind.workers,
        hnsw=state(session, index),
    )
