"""Hold an index against one that is built afresh from the table as it is now, row by row."""

from collections import Counter
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from hybridsearch import SearchIndex
from hybridsearch.backfill import backfill
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


def _frequencies(session: Session, index: SearchIndex) -> dict[str, int]:
    """In how many documents each word is: by the postings, and what is to be merged into them."""
    words = _words(session, index)
    counted: Counter[str] = Counter()
    for term, documents in session.execute(select(index.postings.c.term_id, index.postings.c.documents)):
        counted[words[term]] += documents
    for sign, terms in session.execute(select(index.pending.c.sign, index.pending.c.terms)):
        counted.update({words[term]: sign for term in terms})
    return {word: count for word, count in counted.items() if count}


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
