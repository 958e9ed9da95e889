"""Hold an index against one that is built afresh from the table as it is now, row by row."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from sqlalchemy import Engine, Row, func, select
from sqlalchemy.orm import Session

from hybridsearch import SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.companions import RANGE
from hybridsearch.content import Key
from hybridsearch.engines import engine_of
from hybridsearch.queue import outstanding
from hybridsearch.routines import undefine


def contents(session: Session, index: SearchIndex) -> dict[str, Any]:
    """What an index holds, in terms of keys and words instead of its own numbers."""
    return {
        "documents": _documents(session, index),
        "chunks": _chunks(session, index),
        "frequencies": _frequencies(session, index),
        "statistics": _statistics(session, index),
    }


def _documents(session: Session, index: SearchIndex) -> dict[Key, Any]:
    documents = index.documents
    words = _words(session, index)
    keys = index.key_columns(documents)
    rows = session.execute(select(*keys, documents.c.hash, documents.c.length, documents.c.terms)).all()
    return {tuple(row[: len(keys)]): (row.hash, row.length, sorted(words[term] for term in row.terms)) for row in rows}


def _words(session: Session, index: SearchIndex) -> dict[int, str]:
    return {row.id: row.term for row in session.execute(select(index.terms.c.id, index.terms.c.term))}


def _chunks(session: Session, index: SearchIndex) -> dict[Key, Any]:
    chunks = index.chunks
    keys = index.key_columns(chunks)
    found: dict[Key, Any] = {}
    for row in session.execute(select(*keys, chunks).order_by(*keys, chunks.c.ordinal)):
        mapping = row._mapping
        values = {column.name: str(mapping[column]) for column in chunks.columns if column.name != "id"}
        found.setdefault(tuple(mapping[key] for key in keys), []).append(values)
    return found


def _frequencies(session: Session, index: SearchIndex) -> dict[tuple[str, Key], float]:
    """How often each word is in each document: by the postings, and what is to be merged into them."""
    words, documents, keys = _words(session, index), index.documents, index.key_columns(index.documents)
    lengths = {row.id: row.length for row in session.execute(select(documents.c.id, documents.c.length))}
    names = {row[0]: tuple(row[1:]) for row in session.execute(select(documents.c.id, *keys))}
    waiting = session.execute(select(index.pending).where(index.pending.c.sign == 1)).all()
    merged = names.keys() - {row.document for row in waiting}
    made = session.execute(select(index.statistics)).one_or_none()
    found = {
        (words[posting.term_id], names[document]): round(part * round(frequency / part), 2)
        for posting in session.execute(select(index.postings))
        for document, weight, frequency, part in _decoded(posting)
        if document in merged
        for norm in [made.k1 * (1 - made.b + made.b * lengths[document] / made.average)]
        for frequency in [norm * weight / (1 - weight) if frequency is None else frequency]
    }
    for row in waiting:
        for term, frequency in zip_longest(row.terms, row.frequencies, fillvalue=1.0):
            found[words[term], names[row.document]] = round(frequency, 2)
    return found


def _decoded(posting: Row[Any]) -> Iterator[tuple[int, float, float | None, float]]:
    """Documents of a row of postings with their weight, tf / (tf + norm); tf where it is given, and what divides it."""
    if posting.place >= 0:
        for place, weight in zip(posting.weights.indices(), posting.weights.values(), strict=True):
            yield posting.place * RANGE + place, weight / posting.idf, None, 0.05
    elif posting.place > -(2**31):
        for code, frequency in zip_longest(posting.codes, posting.frequencies or []):
            yield (
                (code >> 11) + (-1 - posting.place) * 2**20,
                (code & 2047) / 2047,
                frequency,
                1.0 if frequency is None else 0.05,
            )


def _statistics(session: Session, index: SearchIndex) -> tuple[int, float]:
    """How many documents, and their length: of the merged ones, and of those to be merged."""
    merged = session.execute(select(index.statistics.c.documents, index.statistics.c.length)).one_or_none() or (0, 0.0)
    sign, length = index.pending.c.sign, index.pending.c.length
    waiting = session.execute(
        select(func.coalesce(func.sum(sign), 0), func.coalesce(func.sum(sign * length), 0.0))
    ).one()
    return int(merged[0] + waiting[0]), round(float(merged[1] + waiting[1]), 3)


def differences(engine: Engine, index: SearchIndex) -> int:
    """Build the index again under another name; return in how many rows the two differ. Nothing of it stays."""
    again = SearchIndex(
        index.model, dict(index.fields), name="afresh", encoder=index.encoder, config=index.config, title=index.title
    )
    tables = list(again.tables)
    try:
        index.metadata.create_all(engine, tables=tables)
        backfill(engine, again)
        with Session(engine) as session:
            assert outstanding(session, index) == 0
            while engine_of(index).compact(session, index):
                session.commit()
            ours, theirs = contents(session, index), contents(session, again)
    finally:
        with engine.begin() as connection:
            undefine(connection, again.definition.qualified_name)
        index.metadata.drop_all(engine, tables=tables)
        for table in tables:
            index.metadata.remove(table)
        index.metadata.info["hybridsearch"].pop(again.definition.qualified_name, None)
    differing = [
        (part, key, ours[part].get(key), theirs[part].get(key))
        for part in ("documents", "chunks", "frequencies")
        for key in ours[part].keys() | theirs[part].keys()
        if ours[part].get(key) != theirs[part].get(key)
    ]
    if ours["statistics"] != theirs["statistics"]:
        differing.append(("statistics", None, ours["statistics"], theirs["statistics"]))
    for difference in differing[:5]:
        print(*difference, sep="\n    ")
    return len(differing)
