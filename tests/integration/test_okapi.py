"""BM25Okapi in SQL against rank_bm25 itself, over the same words."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi
from sqlalchemy import Engine, delete, insert, select
from sqlalchemy.orm import Session

from hybridsearch import BM25, HybridSearch
from hybridsearch.backfill import backfill, upkeep
from tests.support import oracles
from tests.support.models import articles
from tests.support.ranked import QUERIES, filled, scores, terms
from tests.support.shelf import built

OKAPI = BM25(k1=1.5, idf="okapi")


def expected(session: Session, shop: Any, query: str) -> dict[Any, float]:
    """The scores of rank_bm25 of the rows that have a word of the query."""
    words = {
        article.id: [*terms(session, article.title).elements(), *terms(session, article.body).elements()]
        for article in session.scalars(select(shop.Article).execution_options(populate_existing=True))
    }
    asked = [*terms(session, query).elements()]
    return ranked(words, asked)


def ranked(words: dict[Any, list[str]], asked: list[str], **parameters: float) -> dict[Any, float]:
    if not any(words.values()):
        return {}
    given = BM25Okapi(list(words.values()), **parameters).get_scores(asked)
    return {key: float(score) for key, score in zip(words, given, strict=True) if not set(asked).isdisjoint(words[key])}


@pytest.mark.parametrize("merged", [False, True])
def test_scores_are_those_of_rank_bm25(engine: Engine, session: Session, merged: bool) -> None:
    shop = filled(engine, "sql", bm25=OKAPI)
    if merged:
        upkeep(engine, shop.index)
    for query in QUERIES:
        assert scores(session, shop, query) == pytest.approx(expected(session, shop, query), rel=1e-6, abs=1e-9)


def test_the_best_of_many_are_those_of_rank_bm25(engine: Engine, session: Session) -> None:
    """Rows of ranges, with words in most documents, in half of them, in few."""
    made = random.Random(7)
    vocabulary = [f"{a}{b}word" for a in "bcdfghjklm" for b in "aeiouxyzqw"]
    weights = [1 / (place + 1) for place in range(len(vocabulary))]
    rows = [
        {"id": n, "title": " ".join(made.choices(vocabulary, weights, k=made.randint(1, 30))), "body": None}
        for n in range(1, 2_001)
    ]
    shop = articles(config="simple", bm25=BM25(k1=0.9, b=0.4, idf="okapi", epsilon=0.1))
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), rows)
    built(session, shop)
    words = {row["id"]: row["title"].split() for row in rows}
    for _ in range(12):
        asked = [*made.sample(vocabulary[:3], made.randint(0, 2)), *made.sample(vocabulary, made.randint(1, 3))]
        wanted = ranked(words, asked, k1=0.9, b=0.4, epsilon=0.1)
        for k in (1, 10, 100):
            found = scores(session, shop, " ".join(asked), candidates=k)
            best = [wanted[key] for key in oracles.best(wanted, k)]
            assert list(found.values()) == pytest.approx(best, rel=1e-6)
            assert found == pytest.approx({key: wanted[key] for key in found}, rel=1e-6)


bodies = st.lists(st.sampled_from(["red", "oak", "chair", "blue", "the"]), max_size=8)
writes = st.lists(st.tuples(st.integers(1, 8), st.none() | bodies), min_size=1, max_size=12)


@settings(max_examples=15)
@given(steps=st.lists(writes, min_size=1, max_size=3), merged=st.booleans())
def test_any_sequence_of_writes_ends_in_the_scores_of_rank_bm25(
    engine: Engine, session: Session, steps: list[list[tuple[int, list[str] | None]]], merged: bool
) -> None:
    shop = articles(bm25=OKAPI)
    shop.Base.metadata.create_all(engine)
    for written in steps:
        for key, words in written:
            session.execute(delete(shop.Article).where(shop.Article.id == key))
            if words is not None:
                session.execute(insert(shop.Article), [{"id": key, "title": " ".join(words), "body": None}])
        session.commit()
        backfill(engine, shop.index)
        if merged:
            upkeep(engine, shop.index)
    for query in ("red", "red oak oak chair", "blue"):
        assert scores(session, shop, query) == pytest.approx(expected(session, shop, query), rel=1e-6, abs=1e-9)
    session.execute(delete(shop.Article))
    session.commit()
    backfill(engine, shop.index)


@pytest.mark.parametrize("engine_name", ["sql", "memory"])
@pytest.mark.parametrize("query", ["blue books", "red", "red oak oak chair", "gard* blue"])
def test_the_terms_of_an_explanation_add_up_to_the_score(
    engine: Engine, session: Session, engine_name: str, query: str
) -> None:
    shop = filled(engine, engine_name, bm25=OKAPI)
    found = HybridSearch(shop.index).explain(session, query, legs=["lexical"], limit=50)
    assert found
    for one in found:
        assert one.lexical is not None
        assert one.lexical.current
        assert sum(part.score for part in one.lexical.terms) == pytest.approx(one.legs["lexical"].score, rel=1e-6)
