"""Compare changed rows with what is indexed of them: their content by a hash, in SQL, so that no text travels.

seen = look(session, articles, [(17,), (18,)])      # Seen(key=(17,), hash=…, version=…, number=4, …), …
moved(session, articles, seen)                      # those whose rows have been written since
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Select,
    Text,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    select,
)
from sqlalchemy.orm import Session

from hybridsearch.content import Key, content_hash, keys_as_rows
from hybridsearch.model import SearchIndex


@dataclass(frozen=True)
class Seen:
    """A changed key: the row's hash (None: no row) and version, and what is indexed of it (None: nothing)."""

    key: Key
    hash: bytes | None
    version: str
    number: int | None
    indexed: bytes | None
    encoded: bool


def look(session: Session, index: SearchIndex, keys: Sequence[Key]) -> list[Seen]:
    """Compare the rows with what is indexed of them, in one snapshot."""
    width = len(index.key_names)
    rows = session.execute(_comparison(index, keys)).all()
    return [Seen(tuple(row[:width]), *row[width:]) for row in rows]


def without_rows(session: Session, index: SearchIndex, keys: Sequence[Key]) -> list[Seen]:
    """Return rows that cannot be read as if they were gone."""
    if not keys:
        return []
    given, documents = keys_as_rows(index, keys), index.documents
    same = and_(*(given.c[name] == documents.c[name] for name in index.key_names))
    names = [given.c[name] for name in index.key_names]
    rows = session.execute(select(*names, documents.c.id).join_from(given, documents, same, isouter=True))
    return [Seen(tuple(row[:-1]), None, "", row[-1], None, False) for row in rows]


def distinct(taken: Iterable[Key], seen: Iterable[Seen]) -> list[Seen]:
    """Return each row, and each document without one, once, under the key that was noted last.

    Keys may be equal in PostgreSQL, by their type or collation (citext), and not in Python.
    """
    by_key = {one.key: one for one in seen}
    noted = [by_key[key] for key in taken]
    return list({one.version or one.number or one.key: one for one in noted}.values())


def moved(session: Session, index: SearchIndex, seen: Sequence[Seen]) -> list[Key]:
    """Return the keys whose rows have been written since they were looked at."""
    if not seen:
        return []
    given, width = keys_as_rows(index, [one.key for one in seen]), len(index.key_names)
    rows = session.execute(
        select(*(given.c[name] for name in index.key_names), _version(index)).join_from(
            given, index.table, index.same_row(given), isouter=True
        )
    ).all()
    now = {tuple(row[:width]): row[width] for row in rows}
    return [one.key for one in seen if now[one.key] != one.version]


def _comparison(index: SearchIndex, keys: Sequence[Key]) -> Select[Any]:
    given, documents = keys_as_rows(index, keys), index.documents
    names = [given.c[name] for name in index.key_names]
    same = and_(*(given.c[name] == documents.c[name] for name in index.key_names))
    # A row that was deleted has lost its chunks at once, also where it is back with the same content.
    chunks = index.chunks
    own = and_(*(given.c[name] == chunks.c[name] for name in index.key_names))
    has_chunks = exists(select(literal(1)).select_from(chunks).where(own))
    # A hash of no row is null, and a row's key is not.
    hashed = case((index.keys[0].is_not(None), content_hash(index)), else_=null())
    return (
        select(
            *names,
            hashed.label("content_hash"),
            _version(index).label("row_version"),
            documents.c.id.label("document_number"),
            documents.c.hash.label("indexed_hash"),
            and_(documents.c.encoded_at.is_not(None), has_chunks).label("is_encoded"),
        )
        .select_from(given)
        .outerjoin(index.table, index.same_row(given))
        .outerjoin(documents, same)
    )


def _version(index: SearchIndex) -> ColumnElement[str]:
    """Return what tells one version of a row from every other, past and to come."""
    system: list[ColumnClause[Any]] = [column(name) for name in ("tableoid", "xmin", "ctid")]
    for one in system:
        one.table = index.table
    return func.concat_ws(" ", *(cast(one, Text) for one in system))
