"""How far an index is behind its table: cheap figures, for a monitor that asks every few seconds.

freshness(session, articles).lag            # 0.3: seconds since the oldest change that is not encoded yet
prometheus_text([freshness(session, articles)])
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import extract, func, literal, or_, select
from sqlalchemy.orm import Session

from hybridsearch.content import Key
from hybridsearch.encoders.optional import require
from hybridsearch.graph import state
from hybridsearch.model import SearchIndex
from hybridsearch.presence import present_workers
from hybridsearch.queue import seconds
from hybridsearch.state import qualified_name

WINDOW = 60.0  # seconds, over which the rate is taken


@dataclass(frozen=True)
class Freshness:
    """What of an index is on its way. `lag` in seconds, `rate` in documents a second over the last minute.

    `changed` rows wait for their words (they are found all the same), `queued` documents for their vectors; of these,
    `retrying` have met an error. `failed` were set aside: they are found by their words alone. Without `hnsw` searches
    by meaning compare all chunks: see `hybridsearch.graph.state`.
    """

    name: str
    changed: int
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
        queued=queued,
        retrying=retrying,
        failed=failed,
        lag=float(lag),
        rate=rate / WINDOW,
        workers=workers,
        hnsw=state(session, index) == "valid",
    )


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
    "changed": "Rows whose words are not indexed yet (they are found from the table)",
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
