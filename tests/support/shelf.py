"""Put articles into the lexical index alone, without chunks and vectors: for tests of many rows, or of many writers."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from hybridsearch.lexical import lexical
from hybridsearch.postings import add_documents, build, prepare, remove_documents
from tests.support import oracles


def put(session: Session, shop: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Write new articles and index them, in the caller's transaction."""
    index = shop.index
    prepare(session, index)
    session.execute(insert(shop.Article), list(rows))
    written = insert(index.documents).returning(index.documents.c.id, sort_by_parameter_order=True)
    documents = [{"article_id": row["id"], "hash": b"", "length": 0.0, "terms": []} for row in rows]
    numbers = list(session.scalars(written, documents))
    add_documents(session, index, numbers)
    session.execute(delete(index.changes))  # what the triggers have noted is done


def built(session: Session, shop: Any, *, most: int = 20_000) -> None:
    """Index all rows that are not, in bulk, in steps of so many; commits."""
    prepare(session, shop.index)
    while build(session, shop.index, most=most):
        session.execute(delete(shop.index.changes))
        session.commit()


def drop(session: Session, shop: Any, key: int) -> None:
    """Delete an article and take it out of the index, in the caller's transaction."""
    documents = shop.index.documents
    session.execute(delete(shop.Article).where(shop.Article.id == key))
    remove_documents(
        session, shop.index, session.scalars(select(documents.c.id).where(documents.c.article_id == key)).all()
    )
    session.execute(delete(shop.index.changes))


def check(session: Session, shop: Any, query: list[str], candidates: int) -> None:
    """Hold the ranking against the rows of the same snapshot."""
    found = session.execute(lexical(shop.index, " ".join(query), candidates=candidates)).all()
    counted = {
        row.id: Counter(f"{row.title} {row.body}".split()) for row in session.execute(select(shop.Article.__table__))
    }
    expected = oracles.bm25(Counter(query), counted) if any(counted.values()) else {}
    best = sorted(expected.values(), reverse=True)[:candidates]
    assert [-row.distance for row in found] == pytest.approx(best, rel=1e-6)
    assert [-row.distance for row in found] == pytest.approx([expected[row[0]] for row in found], rel=1e-6)
