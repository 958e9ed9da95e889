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
    ColumnElement,
    FromClause,
    Row,
    Select,
    Table,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from hybridsearch.changes import note
from hybridsearch.content import Key, keys_as_rows
from hybridsearch.model import SearchIndex
from hybridsearch.presence import is_present

FIRST_DELAY = 1.0  # seconds; each one after it is four times as long: 1, 4, 16, 64
LONGEST_DELAY = 600.0
JITTER = 0.2
SOON = 1.0  # seconds: when to look again at a document that somebody is about to change


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
    up its attempts is set aside; its worker ended without a word, unless there is an error.
    """
    queue = index.queue
    now = func.clock_timestamp()
    due: Select[Any] = (
        select(*index.key_columns(queue), queue.c.attempts, queue.c.error)
        .where(queue.c.failed_at.is_(None), _is_due(index, now, limits))
        .order_by(queue.c.next_at, *index.key_columns(queue))
        .limit(limits.batch)
        .with_for_update(skip_locked=True)
    )
    rows = session.execute(due).all()
    for row in rows:
        if row.attempts >= limits.attempts:
            said = f"the worker ended {row.attempts} times while it encoded this document"
            set_aside(session, index, _key(row), row.error or said)
    chosen = _together([row for row in rows if row.attempts < limits.attempts])
    keys = [_key(row) for row in chosen]
    if keys:
        given = keys_as_rows(index, keys)
        session.execute(
            update(queue)
            .where(_same(index, given))
            .values(claimed_by=worker, attempts=queue.c.attempts + 1, next_at=now + seconds(limits.lease), error=None)
        )
    return [Claim(_key(row), row.attempts + 1) for row in chosen]


def _hold_claims(session: Session, index: SearchIndex, worker: int) -> ColumnElement[bool]:
    mine = index.queue.c.claimed_by == worker
    hold(session, index, mine)
    return mine


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
    mine = _hold_claims(session, index, worker)
    session.execute(update(index.queue).where(mine).values(next_at=func.clock_timestamp() + seconds(limits.lease)))


def finish(session: Session, index: SearchIndex, *, worker: int, keys: Sequence[Key]) -> None:
    """Strike documents off the queue, unless they have changed meanwhile or are another worker's."""
    if keys:
        mine = _hold_claims(session, index, worker)
        session.execute(delete(index.queue).where(mine, _same(index, keys_as_rows(index, keys))))


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
        mine = _hold_claims(session, index, worker)
        session.execute(
            update(queue)
            .where(mine, _same(index, keys_as_rows(index, keys)))
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
    mine = and_(_same(index, given), _hold_claims(session, index, worker))
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
    """Try a document no more, and drop the vectors of its former content: it is found by its words alone.

    One that is `busy` keeps its attempts and comes again soon, to be set aside then.
    """
    given, now = keys_as_rows(index, [key]), func.clock_timestamp()
    later = busy(session, index, [key])
    when = {"next_at": now + seconds(SOON)} if later else {"failed_at": now}
    session.execute(update(index.queue).where(_same(index, given)).values(claimed_by=None, error=error, **when))
    if not later:
        chunks = index.chunks
        same = and_(*(given.c[name] == chunks.c[name] for name in index.key_names))
        session.execute(delete(chunks).where(same))


def busy(session: Session, index: SearchIndex, keys: Sequence[Key]) -> set[Key]:
    """Return those whose chunks a transaction of the application's has just deleted, which may be open for long.

    The chunks of the others stay locked.
    """
    if not keys:
        return set()
    given, chunks = keys_as_rows(index, keys), index.chunks
    names = [given.c[name] for name in index.key_names]
    same = and_(*(given.c[name] == chunks.c[name] for name in index.key_names))
    held = select(chunks.c.id, *names).join_from(given, chunks, same)
    free = {row.id for row in session.execute(held.with_for_update(of=chunks, skip_locked=True))}
    return {tuple(row[1:]) for row in session.execute(held) if row.id not in free}


def hold(session: Session, index: SearchIndex, which: ColumnElement[bool]) -> None:
    """Lock places in the queue in the order of their keys: of two who do, neither waits for the other in turn.

    All that a transaction is going to write to, and after the locks of documents and chunks.
    """
    keys = index.key_columns(index.queue)
    session.execute(select(*keys).where(which).order_by(*keys).with_for_update(of=index.queue))


def retry(session: Session, index: SearchIndex) -> int:
    """Let every document that was set aside, or waits after an error, be tried at once; return how many.

    One that was never taken has met its error on the way to its words, and goes that way again.
    """
    queue = index.queue
    which = and_(queue.c.error.is_not(None), queue.c.claimed_by.is_(None))
    hold(session, index, which)
    unread = delete(queue).where(which, queue.c.failed_at.is_not(None), queue.c.attempts == 0)
    keys = [tuple(row) for row in session.execute(unread.returning(*index.key_columns(queue)))]
    note(session, index, keys)
    again = update(queue).where(which)
    again = again.values(failed_at=None, error=None, attempts=0, next_at=func.clock_timestamp())
    return len(keys) + _count(session, again)


def forget(session: Session, index: SearchIndex) -> int:
    """Strike what was set aside off the queue: found by its words alone, until it changes; return how many."""
    which = index.queue.c.failed_at.is_not(None)
    hold(session, index, which)
    return _count(session, delete(index.queue).where(which))


def release(session: Session, index: SearchIndex, *, former: int | None = None) -> int:
    """Free what workers have claimed that are no longer there; return how many documents.

    Also what a worker had claimed as `former`, before it lost its connection: it lives, so no attempt is counted.
    """
    queue = index.queue
    mine = queue.c.claimed_by == (former or 0)
    which = and_(queue.c.claimed_by.is_not(None), or_(~is_present(queue.c.claimed_by), mine))
    hold(session, index, which)
    counted = case((mine, _uncounted(queue)), else_=queue.c.attempts)
    freed = update(queue).where(which)
    return _count(session, freed.values(claimed_by=None, next_at=func.clock_timestamp(), attempts=counted))


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
    return tuple(row[:-2])


def _same(index: SearchIndex, given: FromClause) -> ColumnElement[bool]:
    return and_(*(given.c[name] == index.queue.c[name] for name in index.key_names))


def _uncounted(queue: Table) -> ColumnElement[int]:
    return func.greatest(queue.c.attempts - 1, 0)


def _count(session: Session, statement: Any) -> int:
    return int(session.connection().execute(statement).rowcount)
