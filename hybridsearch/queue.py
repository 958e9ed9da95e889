"""The documents that wait for their vectors: who takes them, who is done, who is set aside.

    claims = claim(session, articles, worker=7)         # commit, then encode
    finish(session, articles, worker=7, keys=[...])

A claim counts as an attempt before it is worked on, so a document that kills its worker is known. It ends with the
worker's presence, an advisory lock of its session, or with its lease. Only the server's clock is read.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    MetaData,
    Row,
    ScalarSelect,
    Select,
    SmallInteger,
    Table,
    Text,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.orm import Session

from hybridsearch.content import Key, keys_as_rows
from hybridsearch.model import SearchIndex

PRESENCE = 0x68796270  # "hybp": the class of the advisory locks by which workers are known
FIRST_DELAY = 1.0  # seconds; each one after it is four times as long: 1, 4, 16, 64
LONGEST_DELAY = 600.0
JITTER = 0.2
SOON = 1.0  # seconds: when to look again at a document that somebody is about to change

_locks = Table(
    "pg_locks",
    MetaData(schema="pg_catalog"),
    Column("locktype", Text),
    Column("database", OID),
    Column("classid", OID),
    Column("objid", OID),
    Column("objsubid", SmallInteger),
    Column("granted", Boolean),
)
_databases = Table("pg_database", _locks.metadata, Column("oid", OID), Column("datname", Text))


@dataclass(frozen=True)
class Limits:
    """How much a worker takes at once (`batch` documents), and how long and how often it tries.

    `deadline` is for one call of the encoder, `lease` for all of a batch, `patience` for one transaction, in seconds; a
    document is set aside after so many `attempts`.
    """

    batch: int = 32
    deadline: float | None = 120.0
    lease: float = 900.0
    attempts: int = 5
    patience: float = 300.0


@dataclass(frozen=True)
class Claim:
    """A document that a worker has taken, for the n-th time (from 1)."""

    key: Key
    attempts: int


def claim(session: Session, index: SearchIndex, *, worker: int, limits: Limits) -> list[Claim]:
    """Take a batch of documents that are due, the longest waiting first; commit before working on them.

    One that was taken before, without success, comes alone: what is wrong with it is then its own. One that has used
    up its attempts is set aside; its worker ended without a word each time.
    """
    queue = index.queue
    now = func.clock_timestamp()
    due: Select[Any] = (
        select(*index.key_columns(queue), queue.c.attempts)
        .where(queue.c.failed_at.is_(None), _is_due(index, now, limits))
        .order_by(queue.c.next_at, *index.key_columns(queue))
        .limit(limits.batch)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(due).all()
    for row in rows:
        if row.attempts >= limits.attempts:
            said = f"the worker ended {row.attempts} times while it encoded this document"
            set_aside(session, index, _key(row), said)
    chosen = _together([row for row in rows if row.attempts < limits.attempts])
    keys = [_key(row) for row in chosen]
    if keys:
        given = keys_as_rows(index, keys)
        session.execute(
            update(queue)
            .where(_same(index, given))
            .values(claimed_by=worker, attempts=queue.c.attempts + 1, next_at=now + seconds(limits.lease))
        )
    return [Claim(_key(row), row.attempts + 1) for row in chosen]


def _is_due(index: SearchIndex, now: ColumnElement[Any], limits: Limits) -> ColumnElement[bool]:
    """The condition that a document has waited; so has one whose time is further away than it ever is set.

    Then the clock was set back. The lease of another worker may be longer than ours, but not by much.
    """
    queue = index.queue
    longest = case(
        (queue.c.claimed_by.is_not(None), seconds(4 * limits.lease)),
        (queue.c.error.is_not(None), seconds(LONGEST_DELAY * (1 + JITTER))),
        else_=seconds(2 * SOON),
    )
    return or_(queue.c.next_at <= now, queue.c.next_at > now + longest)


def renew(session: Session, index: SearchIndex, *, worker: int, limits: Limits) -> None:
    """Let the worker keep what it has claimed for another lease."""
    session.execute(
        update(index.queue)
        .where(index.queue.c.claimed_by == worker)
        .values(next_at=func.clock_timestamp() + seconds(limits.lease))
    )


def finish(session: Session, index: SearchIndex, *, worker: int, keys: Sequence[Key]) -> None:
    """Strike documents off the queue, unless they have changed meanwhile or are another worker's."""
    if keys:
        given = keys_as_rows(index, keys)
        session.execute(delete(index.queue).where(_same(index, given), index.queue.c.claimed_by == worker))


def put_back(
    session: Session,
    index: SearchIndex,
    *,
    worker: int,
    keys: Sequence[Key],
    delay: float = 0.0,
    counted: bool = False,
    error: str | None = None,
) -> None:
    """Give claimed documents back, for after `delay` seconds; the attempt is `counted` or not."""
    if keys:
        queue = index.queue
        given = keys_as_rows(index, keys)
        session.execute(
            update(queue)
            .where(_same(index, given), queue.c.claimed_by == worker)
            .values(
                claimed_by=None,
                error=error,
                next_at=func.clock_timestamp() + seconds(delay),
                attempts=queue.c.attempts if counted else _uncounted(queue),
            )
        )


def refuse(session: Session, index: SearchIndex, *, worker: int, claim: Claim, error: str, limits: Limits) -> bool:
    """Note why a document could not be encoded: it comes again later, or is set aside (True) at its last attempt."""
    given = keys_as_rows(index, [claim.key])
    mine = and_(_same(index, given), index.queue.c.claimed_by == worker)
    if claim.attempts >= limits.attempts:
        if session.scalar(select(exists().where(mine))):
            set_aside(session, index, claim.key, error)
        return True
    session.execute(
        update(index.queue)
        .where(mine)
        .values(claimed_by=None, error=error, next_at=func.clock_timestamp() + seconds(backoff(claim.attempts)))
    )
    return False


def set_aside(session: Session, index: SearchIndex, key: Key, error: str) -> None:
    """Try a document no more, and drop the vectors of its former content: it is found by its words alone."""
    given = keys_as_rows(index, [key])
    session.execute(
        update(index.queue)
        .where(_same(index, given))
        .values(claimed_by=None, failed_at=func.clock_timestamp(), error=error)
    )
    chunks = index.chunks
    same = and_(*(given.c[name] == chunks.c[name] for name in index.key_names))
    session.execute(delete(chunks).where(same))


def retry(session: Session, index: SearchIndex) -> int:
    """Let every document that was set aside, or waits after an error, be tried at once; return how many."""
    queue = index.queue
    again = update(queue).where(queue.c.error.is_not(None), queue.c.claimed_by.is_(None))
    return _count(
        session,
        again.values(failed_at=None, error=None, attempts=0, next_at=func.clock_timestamp()),
    )


def forget(session: Session, index: SearchIndex) -> int:
    """Strike what was set aside off the queue: found by its words alone, until it changes; return how many."""
    return _count(session, delete(index.queue).where(index.queue.c.failed_at.is_not(None)))


def release(session: Session, index: SearchIndex, *, former: int | None = None) -> int:
    """Free what workers have claimed that are no longer there; return how many documents.

    Also what a worker had claimed as `former`, before it lost its connection: it lives, so no attempt is counted.
    """
    queue = index.queue
    mine = queue.c.claimed_by == (former or 0)
    present = exists().where(_presence(), cast(_locks.c.objid, BigInteger) == queue.c.claimed_by)
    freed = update(queue).where(queue.c.claimed_by.is_not(None), or_(~present, mine))
    counted = case((mine, _uncounted(queue)), else_=queue.c.attempts)
    return _count(session, freed.values(claimed_by=None, next_at=func.clock_timestamp(), attempts=counted))


def present_workers() -> ScalarSelect[int]:
    """Return an expression: how many workers are connected to the database."""
    return select(func.count()).select_from(_locks).where(_presence()).scalar_subquery()


def _presence() -> ColumnElement[bool]:
    """The condition that a lock is a worker's, in this database."""
    here = select(_databases.c.oid).where(_databases.c.datname == func.current_database()).scalar_subquery()
    return and_(
        _locks.c.locktype == "advisory",
        _locks.c.database == here,
        _locks.c.classid == cast(PRESENCE, OID),
        _locks.c.objsubid == 2,
        _locks.c.granted,
    )


def outstanding(session: Session, index: SearchIndex) -> int:
    """Return how many documents are still on their way: changed or queued, and not held up by an error."""
    queue, keys = index.queue, index.key_columns(index.changes)
    changed = select(func.coalesce(func.sum(func.cardinality(keys[0])), 0)).scalar_subquery()
    waiting = select(func.count()).where(queue.c.failed_at.is_(None), queue.c.error.is_(None)).scalar_subquery()
    return int(session.scalar(select(changed + waiting)) or 0)


def backoff(failures: int, *, first: float = FIRST_DELAY, longest: float = LONGEST_DELAY) -> float:
    """Return how many seconds to wait after the n-th failure: each four times the last, with a jitter of a fifth."""
    delay: float = min(longest, first * 4 ** min(failures - 1, 20))
    return delay * random.uniform(1 - JITTER, 1 + JITTER)


def seconds(number: float) -> ColumnElement[Any]:
    """Return an interval."""
    return func.make_interval(0, 0, 0, 0, 0, 0, number)


def _together(rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Those of the rows that may share a batch."""
    if rows and rows[0].attempts > 0:
        return rows[:1]
    return [row for row in rows if row.attempts == 0]


def _key(row: Row[Any]) -> Key:
    return tuple(row[:-1])


def _same(index: SearchIndex, given: FromClause) -> ColumnElement[bool]:
    return and_(*(given.c[name] == index.queue.c[name] for name in index.key_names))


def _uncounted(queue: Table) -> ColumnElement[int]:
    return func.greatest(queue.c.attempts - 1, 0)


def _count(session: Session, statement: Any) -> int:
    return int(session.connection().execute(statement).rowcount)
