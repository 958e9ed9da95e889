"""The first of two stages: the words of what has changed, from the change table into the lexical index. SQL only.

    index_words(session, articles)      # Page(read=120, written=100, removed=20), or None: nothing to do

What a query finds by words never waits for an encoder. The rows of the change table go in the transaction that indexes
their words, so a query scores a document either from its row or from the index, and never from both.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    and_,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from hybridsearch.changes import note, note_gone, notify
from hybridsearch.comparison import Seen, distinct, look, moved, without_rows
from hybridsearch.content import Key, keys_as_rows, recipe
from hybridsearch.engines import engine_of
from hybridsearch.isolation import culprits, is_of_data, is_unsure, said_of
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.queue import hold
from hybridsearch.state import lock

logger = logging.getLogger(__name__)

WORDS = 500  # documents in one transaction
MANY = 5000  # new rows that are worth a range of postings of their own
MOST = 2**31 - 1


def index_words(session: Session, index: SearchIndex, *, limit: int = WORDS, wait: bool = False) -> Page | None:
    """Index the words of up to `limit` changed documents, in the caller's transaction; None where none waits.

    One at a time works on an index; with `wait` the other's transaction is waited for, else it is left to the other.
    """
    if not lock(session, index, "words", wait=wait):
        return None
    taken = _take(session, index, limit)
    if not taken:
        return None
    if taken.pop((None,) * len(index.key_names), None) is not None:
        note_gone(session, index)
    try:
        with session.begin_nested():
            return _index(session, index, taken)
    except Exception as error:
        if not is_of_data(error):
            raise
        keys = list(taken)
        unread = culprits(session, keys, lambda some: _index(session, index, {key: taken[key] for key in some}))
        if len(unread) == len(keys) > 1 and any(map(is_unsure, unread.values())):
            raise  # no row's fault
    return _index(session, index, taken, unread)


def _index(
    session: Session, index: SearchIndex, taken: Mapping[Key, datetime], unread: Mapping[Key, Exception] | None = None
) -> Page:
    """Index the words of changed documents; of those that cannot be read nothing stays but an error in the queue."""
    unread = unread or {}
    read = look(session, index, [key for key in taken if key not in unread])
    seen = distinct(taken, [*read, *without_rows(session, index, list(unread))])
    changed = [one for one in seen if one.hash is not None and one.hash != one.indexed]
    gone = [one for one in seen if one.hash is None]
    same = [one for one in seen if one.hash is not None and one.hash == one.indexed and not one.encoded]
    # Documents, then chunks, then places in the queue, each in one order with whoever writes vectors: neither waits for
    # the other in turn.
    _lock(session, index, _numbers([*changed, *gone, *same]))
    _remove(session, index, _numbers([*changed, *gone]))
    _unencode(session, index, _numbers(same))
    _add(session, index, changed)
    _distrust(session, index, changed)
    _drop(session, index, index.chunks, gone)
    hold(session, index, _of(index, index.queue, [*changed, *gone, *same]))
    _drop(session, index, index.queue, gone)
    _queue(session, index, taken, changed, again=True)
    _queue(session, index, taken, same, again=False)
    _set_aside(session, index, taken, unread)
    return Page(read=len(seen), removed=sum(one.number is not None for one in gone))


def fill_words(session: Session, index: SearchIndex) -> int:
    """Number and index many new rows at once, in one bounded step; return how many, 0 where fewer than MANY are new.

    Their change rows stay: what those find is that the words are done, and the vectors are not. None where one of the
    rows cannot be read: the steps of `index_words` find it.
    """
    lock(session, index, "words")
    new = select(index.keys[0]).join_from(index.table, index.documents, index.same_row(index.documents), isouter=True)
    some = new.where(index.documents.c.id.is_(None)).limit(MANY).subquery()
    if (session.scalar(select(func.count()).select_from(some)) or 0) < MANY:
        return 0
    try:
        with session.begin_nested():
            return engine_of(index).fill(session, index, recipe(index))
    except Exception as error:
        if not is_of_data(error):
            raise
        logger.warning("%s: the rows are indexed step by step: %s", index.name, said_of(error))
        return 0


def _take(session: Session, index: SearchIndex, limit: int) -> dict[Key, datetime]:
    """Take the oldest keys off the change table; return since when each waits."""
    changes = index.changes
    arrays = index.key_columns(changes)
    size = func.cardinality(arrays[0])
    before = func.sum(size).over(order_by=changes.c.id) - size
    first = select(changes.c.id, changes.c.queued_at, size.label("size"), before.label("before"), *arrays)
    recent = first.order_by(changes.c.id).limit(limit).subquery("oldest")
    parts = [recent.c[name][1 : limit - recent.c.before] for name in index.key_names]
    rows = session.execute(
        select(recent.c.id, recent.c.queued_at, recent.c.size, recent.c.before, *parts)
        .where(recent.c.before < limit)
        .order_by(recent.c.id)
    ).all()
    taken: dict[Key, datetime] = {}
    for row in rows:
        for key in zip(*row[4:], strict=True):
            taken.setdefault(key, row.queued_at)
    whole = [row.id for row in rows if row.before + row.size <= limit]
    session.execute(delete(changes).where(changes.c.id.in_(whole)))
    for row in rows[len(whole) :]:  # the last, where it holds more than the limit
        rest = {array: array[limit - row.before + 1 : MOST] for array in arrays}
        session.execute(update(changes).where(changes.c.id == row.id).values(rest))
    return taken


def _numbers(seen: Iterable[Seen]) -> list[int]:
    return [one.number for one in seen if one.number is not None]


def _lock(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    documents = index.documents
    session.execute(select(documents.c.id).where(documents.c.id.in_(numbers)).order_by("id").with_for_update())


def _unencode(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    """Note of documents that their vectors are not there."""
    if numbers:
        documents = index.documents
        there = and_(documents.c.id.in_(numbers), documents.c.encoded_at.is_not(None))
        session.execute(update(documents).where(there).values(encoded_at=None))


def _remove(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    if numbers:
        engine_of(index).remove(session, index, numbers)


def _drop(session: Session, index: SearchIndex, table: Table, seen: Sequence[Seen]) -> None:
    """Drop chunks, or places in the queue, of documents."""
    if seen:
        session.execute(delete(table).where(_of(index, table, seen)))


def _of(index: SearchIndex, table: FromClause, seen: Sequence[Seen]) -> ColumnElement[bool]:
    """The condition that a row of a companion is of one of these."""
    given = keys_as_rows(index, [one.key for one in seen])
    return and_(*(given.c[name] == table.c[name] for name in index.key_names))


def _add(session: Session, index: SearchIndex, documents: Sequence[Seen]) -> None:
    """Number the documents, and index their words."""
    if not documents:
        return
    rows = [
        {**dict(zip(index.key_names, one.key, strict=True)), "hash": one.hash, "length": 0.0, "terms": []}
        for one in documents
    ]
    statement = insert(index.documents).returning(index.documents.c.id, sort_by_parameter_order=True)
    engine_of(index).add(session, index, list(session.scalars(statement, rows)))


def _distrust(session: Session, index: SearchIndex, indexed: Sequence[Seen]) -> None:
    """Look again at rows that were written between the look at their hash and the reading of their words.

    A content that goes and comes back in that time would leave the words of the one between under its own hash.
    """
    keys = moved(session, index, indexed)
    if keys:
        given, documents = keys_as_rows(index, keys), index.documents
        same = and_(*(given.c[name] == documents.c[name] for name in index.key_names))
        session.execute(update(documents).where(same).values(hash=b""))
        note(session, index, keys)
        notify(session, index)


def _queue(
    session: Session, index: SearchIndex, since: Mapping[Key, datetime], seen: Sequence[Seen], *, again: bool
) -> None:
    """Let documents wait for their vectors; `again` gives one that waits, or was set aside, a fresh start."""
    rows = [{**dict(zip(index.key_names, one.key, strict=True)), "queued_at": since[one.key]} for one in seen]
    if not rows:
        return
    statement = upsert(index.queue)
    names = list(index.key_names)
    if again:
        fresh = {"next_at": func.clock_timestamp(), "attempts": 0, "claimed_by": None, "error": None}
        # A document that is changed faster than it is encoded has waited since the first change.
        since_ = case(
            (index.queue.c.failed_at.is_(None), func.least(index.queue.c.queued_at, statement.excluded.queued_at)),
            else_=statement.excluded.queued_at,
        )
        statement = statement.on_conflict_do_update(
            index_elements=names,
            set_={**fresh, "queued_at": since_, "failed_at": None} | {name: statement.excluded[name] for name in names},
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=names)
    session.execute(statement, rows)
    notify(session, index)


def _set_aside(
    session: Session, index: SearchIndex, since: Mapping[Key, datetime], unread: Mapping[Key, Exception]
) -> None:
    """Leave errors in the queue, of rows that were never taken for their vectors: so `retry` knows them."""
    rows = [
        {
            **dict(zip(index.key_names, key, strict=True)),
            "queued_at": since[key],
            "error": f"its words cannot be indexed: {said_of(error)}: change the row, or mend what reads it and retry",
        }
        for key, error in unread.items()
    ]
    if rows:
        session.execute(insert(index.queue).values(failed_at=func.clock_timestamp()), rows)
