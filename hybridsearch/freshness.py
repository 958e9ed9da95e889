"""How far an index is behind its table: cheap figures, for a monitor that asks every few seconds.

freshness(session, articles).lag            # 0.3: seconds since the oldest change that is not encoded yet
prometheus_text([freshness(session, articles)])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Select, and_, case, cast, extract, func, literal, or_, select
from sqlalchemy.orm import Session

from hybridsearch.content import Key
from hybridsearch.encoders.optional import require
from hybridsearch.graph import state
from hybridsearch.model import SearchIndex
from hybridsearch.presence import present_workers
from hybridsearch.queue import seconds
from hybridsearch.state import qualified_name

WINDOW = 60.0  # seconds, over which the rate is taken
READ = 200  # changed rows that a search reads, those that changed last
LONG = 8000  # bytes of an array of keys that is not looked into


@dataclass(frozen=True)
class Freshness:
    """What of an index is on its way. `lag` in seconds, `rate` in documents a second over the last minute.

    `changed` rows wait for their words; they are found all the same, but for `words_behind` of them, which are too many
    for a search to read. `queued` documents wait for their vectors; of these, `retrying` have met an error. `failed`
    were set aside: they are found by their words alone. Without `hnsw` searches by meaning compare all chunks: see
    `hybridsearch.graph.state`.
    """

    name: str
    changed: int
    words_behind: int
    queued: int
    retrying: int
    failed: int
    lag: float
    rate: float
    workers: int
    hnsw: bool


@dataclass(frozen=True)
class Failure:
    """A document that was set aside, or waits after an error."""

    key: Key
    error: str
    attempts: int
    failed_at: datetime | None


def freshness(session: Session, index: SearchIndex) -> Freshness:
    """Return how far the index is behind its table, by the server's clock."""
    changes, queue, documents = index.changes, index.queue, index.documents
    now = func.clock_timestamp()
    changed, oldest_change = session.execute(
        select(
            func.coalesce(func.sum(func.cardinality(index.key_columns(changes)[0])), 0), func.min(changes.c.queued_at)
        )
    ).one()
    waits = queue.c.failed_at.is_(None)
    queued, retrying, failed, oldest = session.execute(
        select(
            func.count().filter(waits),
            func.count().filter(waits, queue.c.error.is_not(None)),
            func.count().filter(~waits),
            func.min(queue.c.queued_at).filter(waits),
        )
    ).one()
    since = min(filter(None, (oldest_change, oldest)), default=None)
    lately = documents.c.encoded_at.between(now - seconds(WINDOW), now)
    written = select(func.count()).where(lately).scalar_subquery()
    age = func.greatest(extract("epoch", now - since), 0.0) if since is not None else literal(0.0)
    rate, lag, workers = session.execute(select(written, age, present_workers())).one()
    return Freshness(
        name=qualified_name(index),
        changed=int(changed),
        words_behind=_words_behind(session, index, int(changed)),
        queued=queued,
        retrying=retrying,
        failed=failed,
        lag=float(lag),
        rate=rate / WINDOW,
        workers=workers,
        hnsw=state(session, index) == "valid",
    )


def _words_behind(session: Session, index: SearchIndex, changed: int) -> int:
    """Return how many of the changed rows a search does not read: by the rule of the functions best and changes."""
    if index.engine != "sql":  # the engine memory reads all rows, pg_textsearch none that is not indexed
        return 0 if index.engine == "memory" else changed
    changes = index.changes
    keys = index.key_columns(changes)[0]
    cost = case((func.pg_column_size(keys) > LONG, 1000), else_=func.cardinality(keys))
    newest = select(changes.c.id, cost.label("cost")).order_by(changes.c.id.desc()).limit(READ).subquery()
    upto = (
        select(newest.c.cost, func.sum(newest.c.cost).over(order_by=newest.c.id.desc()).label("upto"))
        .where(newest.c.cost <= READ)
        .subquery()
    )
    read = select(func.coalesce(func.sum(upto.c.cost), 0)).where(upto.c.upto <= READ)
    return max(0, changed - int(session.scalar(read) or 0))


Count = Callable[[Session, SearchIndex], Select[Any]]


def changed_now(session: Session, index: SearchIndex) -> Select[Any]:
    """Return how many rows wait for their words, as a query: later, it counts those of them that still do."""
    changes = index.changes
    last = session.scalar(select(func.max(changes.c.id))) or 0
    size = func.cardinality(index.key_columns(changes)[0])
    return select(cast(func.coalesce(func.sum(size), 0), BigInteger)).where(changes.c.id <= last)


def queued_now(session: Session, index: SearchIndex) -> Select[Any]:
    """Return how many documents wait for their vectors, and not after an error, as a query.

    Later, it counts those of them that still do. One that changes has another number, and is none of them any more:
    it may change faster than it is encoded.
    """
    queue, documents = index.queue, index.documents
    last = session.scalar(select(func.max(documents.c.id))) or 0
    same = and_(*(documents.c[name] == queue.c[name] for name in index.key_names))
    waits = and_(queue.c.failed_at.is_(None), queue.c.error.is_(None))
    return select(func.count()).select_from(queue).join(documents, same).where(waits, documents.c.id <= last)


def failures(session: Session, index: SearchIndex, *, limit: int = 20) -> list[Failure]:
    """Return documents with errors, the latest that were set aside first."""
    queue = index.queue
    keys = index.key_columns(queue)
    rows = session.execute(
        select(queue.c.error, queue.c.attempts, queue.c.failed_at, *keys)
        .where(or_(queue.c.failed_at.is_not(None), queue.c.error.is_not(None)))
        .order_by(queue.c.failed_at.desc().nulls_last(), *keys)
        .limit(limit)
    )
    return [Failure(tuple(row[3:]), row.error or "", row.attempts, row.failed_at) for row in rows]


_HELP = {
    "changed": "Rows whose words are not indexed yet",
    "words_behind": "Of these, rows that are not found by their words: a search reads the newest 200 from the table",
    "queued": "Documents that wait for their vectors",
    "retrying": "Documents that wait after an error",
    "failed": "Documents that were set aside",
    "lag": "Seconds since the oldest change that is not encoded yet",
    "rate": "Documents encoded a second, over the last minute",
    "workers": "Workers that are connected to the database",
    "hnsw": "Whether the HNSW index is there (0: searches by meaning compare all chunks)",
}


def prometheus_text(found: Sequence[Freshness]) -> str:
    """Return the figures in the text format of Prometheus, labelled by index. Needs the extra `metrics`."""
    client = require("prometheus_client", extra="metrics")
    registry = client.CollectorRegistry()
    units = {"lag": "_seconds", "rate": "_documents_per_second"}
    for field in fields(Freshness):
        if field.name == "name":
            continue
        name = f"hybridsearch_{field.name}{units.get(field.name, '')}"
        gauge = client.Gauge(name, _HELP[field.name], ["index"], registry=registry)
        for one in found:
            gauge.labels(index=one.name).set(getattr(one, field.name))
    text: bytes = client.generate_latest(registry)
    return text.decode()
