"""The second of two stages: the vectors of what is queued. Read, encode without a transaction, write.

    works = read(session, articles, keys)           # then let the transaction go
    encoded = encode(articles, works)               # takes as long as it takes
    write(session, articles, worker=7, encoded)     # only what is still the row's content

Raises EncoderError where the encoder fails at everything; what it fails at alone is in `errors`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import and_, case, delete, func, insert, null, select, update
from sqlalchemy.orm import Session

from hybridsearch import weights
from hybridsearch.content import Content, Key, chunks_of, content_hash, content_of, field_columns, keys_as_rows
from hybridsearch.deadline import TimedOut, within
from hybridsearch.encoders import Encoding, checked
from hybridsearch.encoding import work_of
from hybridsearch.errors import EncoderError
from hybridsearch.model import SearchIndex
from hybridsearch.queue import SOON, busy, finish, put_back
from hybridsearch.sparse_vector import sparse_vector
from hybridsearch.state import hold_encoder

TEXTS = 64  # in one call of the encoder: what a deadline is for
PROBE = "probe"


@dataclass(frozen=True)
class Work:
    """A document to encode: its key and content, and the hash of that content."""

    key: Key
    hash: bytes
    content: Content


@dataclass(frozen=True)
class Plan:
    """What is to be done of some queued documents.

    `works` wait to be encoded; `done` have their vectors already, or no row any more; `later` are about to change, and
    of these, `stale` are not indexed as they are declared now.
    """

    works: Sequence[Work] = ()
    done: Sequence[Key] = ()
    later: Sequence[Key] = ()
    stale: Sequence[Key] = ()


@dataclass(frozen=True)
class Encoded:
    """Rows of the chunk table by document, and what went wrong with the others."""

    chunks: Mapping[Key, list[dict[str, Any]]] = field(default_factory=dict)
    hashes: Mapping[Key, bytes] = field(default_factory=dict)
    errors: Mapping[Key, EncoderError] = field(default_factory=dict)


def read(session: Session, index: SearchIndex, keys: Sequence[Key]) -> Plan:
    """Read what is to be encoded of the documents whose words are indexed.

    Raises EncoderMismatch if the index is another encoder's.
    """
    hold_encoder(session, index)
    given, documents = keys_as_rows(index, keys), index.documents
    width = len(index.key_names)
    rows = session.execute(
        select(
            *(given.c[name] for name in index.key_names),
            documents.c.hash.label("indexed_hash"),
            documents.c.encoded_at.is_not(None).label("is_encoded"),
            # A hash of no row is null, and a row's key is not.
            case((index.keys[0].is_not(None), content_hash(index)), else_=null()).label("content_hash"),
            *(column.label(f"field_{place}") for place, column in enumerate(field_columns(index))),
        )
        .select_from(given)
        .outerjoin(documents, and_(*(given.c[name] == documents.c[name] for name in index.key_names)))
        .outerjoin(index.table, index.same_row(given))
    ).all()
    works: list[Work] = []
    stale: list[Key] = []
    done: list[Key] = []
    for row in rows:
        key, (indexed, is_encoded, current) = tuple(row[:width]), row[width : width + 3]
        if is_encoded or indexed is current is None:
            done.append(key)
        elif indexed == current:
            works.append(Work(key, indexed, content_of(index, row[width + 3 :])))
        else:  # the first stage comes first
            stale.append(key)
    held = busy(session, index, [work.key for work in works])
    return Plan([work for work in works if work.key not in held], done, [*stale, *held], stale)


def encode(
    index: SearchIndex,
    works: Sequence[Work],
    *,
    deadline: float | None = None,
    beat: Callable[[], object] = lambda: None,
) -> Encoded:
    """Cut documents into chunks and encode them; where that fails, each by itself.

    The encoder has `deadline` seconds for TEXTS texts; `beat` is called between. Raises EncoderError if it fails at
    a word as well; TimedOut if it took too long for several documents, of which any may be the cause.
    """
    hashes = {work.key: work.hash for work in works}
    try:
        return Encoded(_chunks(index, works, deadline, beat), hashes)
    except EncoderError as error:
        if isinstance(error, TimedOut) and len(works) > 1:
            raise
        probe(index, deadline=deadline)
        if len(works) == 1:
            return Encoded(errors={works[0].key: error})
    chunks: dict[Key, list[dict[str, Any]]] = {}
    errors: dict[Key, EncoderError] = {}
    for work in works:
        try:
            chunks |= _chunks(index, [work], deadline, beat)
        except EncoderError as error:
            errors[work.key] = error
    return Encoded(chunks, hashes, errors)


def probe(index: SearchIndex, *, deadline: float | None = None) -> None:
    """Raise EncoderError if the encoder cannot encode one plain word: then no document is at fault."""
    _encoding(index, [PROBE], deadline)


def write(session: Session, index: SearchIndex, encoded: Encoded, *, worker: int) -> int:
    """Write what is still the documents' content, and strike them off the queue; return how many were written.

    In the caller's transaction, which should end soon. Raises EncoderMismatch if the index is another encoder's.
    """
    hold_encoder(session, index)
    keys = list(encoded.chunks)
    current = _current(session, index, encoded, keys)
    held = busy(session, index, current)
    writable = [key for key in current if key not in held]
    if writable:
        given, chunks, documents = keys_as_rows(index, writable), index.chunks, index.documents
        session.execute(delete(chunks).where(and_(*(given.c[name] == chunks.c[name] for name in index.key_names))))
        if rows := [row for key in writable for row in encoded.chunks[key]]:
            session.execute(insert(chunks), rows)
            weights.put(session, index, given)
        session.execute(
            update(documents)
            .where(and_(*(given.c[name] == documents.c[name] for name in index.key_names)))
            .values(encoded_at=func.clock_timestamp())
        )
    # What has changed meanwhile was queued anew, and no longer is this worker's.
    finish(session, index, worker=worker, keys=[key for key in keys if key not in held])
    put_back(session, index, worker=worker, keys=sorted(held, key=keys.index), delay=SOON)
    return len(writable)


def _current(session: Session, index: SearchIndex, encoded: Encoded, keys: Sequence[Key]) -> list[Key]:
    """Those whose content is still what was encoded; their document rows stay locked."""
    if not keys:
        return []
    given, documents = keys_as_rows(index, keys), index.documents
    rows = session.execute(
        select(documents.c.hash, *(given.c[name] for name in index.key_names))
        .join_from(given, documents, and_(*(given.c[name] == documents.c[name] for name in index.key_names)))
        .where(documents.c.encoded_at.is_(None))
        .order_by(documents.c.id)
        .with_for_update(of=documents)
    )
    return [tuple(row[1:]) for row in rows if encoded.hashes[tuple(row[1:])] == row[0]]


def _chunks(
    index: SearchIndex, works: Sequence[Work], deadline: float | None, beat: Callable[[], object]
) -> dict[Key, list[dict[str, Any]]]:
    """Rows of the chunk table with their vectors, by document."""
    with work_of(index.encoder):
        by_key = {work.key: chunks_of(index, work.key, work.content) for work in works}
    rows = [row for chunks in by_key.values() for row in chunks]
    for start in range(0, len(rows), TEXTS):
        beat()
        part = rows[start : start + TEXTS]
        encoding = _encoding(index, [row["text"] for row in part], deadline)
        for row, vector in zip(part, index.storage.fit(encoding.dense), strict=True):
            row["dense"] = np.array(vector)  # a copy: a view keeps the whole batch alive
            if index.storage.bits is not None:
                row["bits"] = index.storage.quantise(vector)
        for row, tokens in zip(part, encoding.sparse or [], strict=False):
            row["sparse"] = sparse_vector(index, tokens)
    return by_key


def _encoding(index: SearchIndex, texts: Sequence[str], deadline: float | None) -> Encoding:
    encoder = index.encoder
    with work_of(encoder):
        encoding = within(deadline, lambda: encoder.encode_documents(texts), f'encoder "{encoder.name}"')
        return checked(encoder, encoding, len(texts))
