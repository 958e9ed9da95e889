"""From declaration to hits, on a real server."""

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.backfill import backfill
from tests.support.models import articles

TEXTS = [
    ("Red chair", "A comfortable chair made of oak, painted red."),
    ("Blue table", "A table for six people."),
    ("Garden chair", None),
    ("Oak shelf", "Holds red books and blue books."),
]


@pytest.fixture
def shop(engine: Engine):
    shop = articles()
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(shop.Article(id=n, title=title, body=body) for n, (title, body) in enumerate(TEXTS, 1))
        session.commit()
    backfill(engine, shop.index)
    return shop


def test_a_search_returns_the_objects_best_first(shop, session: Session) -> None:
    hits = HybridSearch(shop.index).search(session, "red chair")
    assert hits[0].document is session.get(shop.Article, 1)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].ranks == {"dense": 1, "lexical": 1}


def test_the_fused_score_is_the_six_line_oracle(shop, session: Session) -> None:
    search = HybridSearch(shop.index)
    for hit in search.search(session, "red oak chair"):
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in hit.ranks.values()), abs=1e-9)


def test_a_hit_carries_its_nearest_chunk(shop, session: Session) -> None:
    hits = HybridSearch(shop.index).search(session, "table")
    assert all(hit.chunk.document is hit.document for hit in hits)


def test_where_acts_inside_every_leg(shop, session: Session) -> None:
    hits = HybridSearch(shop.index).search(session, "chair", where=shop.Article.id > 2)
    assert {hit.document.id for hit in hits} == {3, 4}
    assert hits[0].ranks == {"dense": 1, "lexical": 1}


def test_the_dense_leg_equals_brute_force(shop, session: Session) -> None:
    search = HybridSearch(shop.index)
    query = search.encode("blue books")
    chunks = session.query(shop.index.Chunk).all()
    similar = {chunk.article_id: float(np.asarray(chunk.dense) @ query.dense) for chunk in chunks}
    hits = search.search(session, query, legs=["dense"])
    assert [hit.document.id for hit in hits] == sorted(similar, key=lambda key: (-similar[key], key))


def test_a_deleted_row_is_not_found_before_the_next_indexing(shop, session: Session) -> None:
    session.delete(session.get(shop.Article, 1))
    session.commit()
    hits = HybridSearch(shop.index).search(session, "red chair")
    assert 1 not in {hit.document.id for hit in hits}
