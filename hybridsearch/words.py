"""The first of two stages: the words of what has changed, from the change table into the lexical index. SQL only.

    index_words(session, articles)      # Page(read=120, written=100, removed=20), or None: nothing to do

What a query finds by words never waits for an encoder. The rows of the change table go in the transaction that indexes
their words, so a query scores a document either from its row or from the index, and never from both.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Select, Text, cast, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.changes import note_gone
from hybridsearch.content import Key, key_arrays, recipe
from hybridsearch.engines import engine_of
from hybridsearch.isolation import culprits, is_of_data, is_unsure, said_of
from hybridsearch.lexical import routine
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.state import lock, lock_key

logger = logging.getLogger(__name__)

WORDS = 500  # documents in one transaction
MANY = 5000  # new rows that are worth a range of postings of their own


def index_words(session: Session, index: SearchIndex, *, limit: int = WORDS, wait: bool = False) -> Page | None:
    """Index the words of up to `limit` changed documents, in the caller's transaction; None where none waits.

    One at a time works on an index; with `wait` the other's transaction is waited for, else it is left to the other.
    """
    found = session.execute(_step(index, limit, wait)).all()
    if not found:
        return None
    if found[0].truncated:
        note_gone(session, index)
    if found[0].since is None:
        return Page(read=found[0].read, removed=found[0].removed)
    return _by_halves(session, index, {tuple(row[4:]): row.since for row in found})


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


def _step(index: SearchIndex, limit: int, wait: bool) -> Select[Any]:
    """All of it in one statement; where it fails at what rows hold, it returns their keys, and since when they wait."""
    keys = (column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True))
    call = routine(index, "follow", lock_key(index, "words"), cast(recipe(index), Text), limit, wait)
    return select(call.table_valued("read", "removed", "truncated", "since", *keys))


def _by_halves(session: Session, index: SearchIndex, taken: Mapping[Key, datetime]) -> Page:
    """Index the words of rows of which some cannot be read: of those nothing stays but an error in the queue."""
    keys = list(taken)
    unread = culprits(session, keys, lambda some: _follow(session, index, {key: taken[key] for key in some}, {}))
    unsure = [error for error in unread.values() if is_unsure(error)]
    if len(unread) == len(keys) > 1 and unsure:
        raise unsure[0]  # no row's fault
    return _follow(session, index, taken, unread)


def _follow(
    session: Session, index: SearchIndex, taken: Mapping[Key, datetime], unread: Mapping[Key, Exception]
) -> Page:
    since = _array(list(taken.values()), DateTime(timezone=True))
    errors = _array([_said(unread.get(key)) for key in taken], Text())
    keys = key_arrays(index, list(taken))
    call = routine(index, "follow_keys", cast(recipe(index), Text), since, errors, *keys)
    found = session.execute(select(call.table_valued("read", "removed"))).one()
    return Page(read=found.read, removed=found.removed)


def _array(values: list[Any], type_: Any) -> ColumnElement[Any]:
    return cast(literal(values, ARRAY(type_)), ARRAY(type_))


def _said(error: Exception | None) -> str | None:
    if error is None:
        return None
    return f"its words cannot be indexed: {said_of(error)}: change the row, or mend what reads it and retry"
