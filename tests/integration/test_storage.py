"""Kinds of storage for dense vectors, the template, offsets, reranking, and the shared cache of query encodings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from sqlalchemy import REAL, Engine, cast, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch import DeclarationError, HybridSearch, Rerank
from hybridsearch.backfill import backfill
from hybridsearch.content import body_of
from hybridsearch.encoders.cache import LRU
from hybridsearch.query_cache import SharedStore, encodings
from hybridsearch.storage import Kind, Storage
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles

WORDS = ["red", "blue", "oak", "pine", "chair", "table", "shelf", "lamp", "book", "door", "window", "small", "large"]
ROWS = [
    {"id": n, "title": " ".join(np.random.default_rng(n).choice(WORDS, 4)), "body": None if n % 3 else "and a book"}
    for n in range(1, 301)
]


def filled(engine: Engine, rows: Sequence[dict[str, Any]] = ROWS, **options: Any) -> Any:
    shop = articles(encoder=WordHashEncoder(64), **options)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), rows)
    backfill(engine, shop.index)
    return shop


@pytest.mark.parametrize(
    "options", [{"storage": "halfvec"}, {"storage": "vector"}, {"storage": "bit"}, {"dimensions": 32}], ids=str
)
def test_every_kind_of_storage_finds_what_brute_force_finds(engine: Engine, options: dict[str, Any]) -> None:
    shop = filled(engine, **options)
    search = HybridSearch(shop.index)
    query = search.encode("a small oak table")
    assert query.dense is not None
    with Session(engine) as session:
        chunks = session.query(shop.index.Chunk).all()
        assert {len(chunk.dense) for chunk in chunks} == {shop.index.storage.dimensions}
        near = {chunk.article_id: float(np.asarray(chunk.dense) @ query.dense) for chunk in chunks}
        best = sorted(near, key=lambda key: (-round(near[key], 5), key))[:10]
        found = [hit.document.id for hit in search.search(session, query, legs=["dense"], candidates=200)]
        assert len(set(found) & set(best)) >= 9


@pytest.mark.parametrize(("kind", "number"), [("halfvec", np.float16), ("vector", np.float32)])
def test_a_querys_vector_reaches_the_server_to_the_last_bit(engine: Engine, kind: Kind, number: Any) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    if kind == "vector":
        bits = np.random.default_rng(5).integers(2**32, size=2**16, dtype=np.uint32)
    numbers = bits.view(number)
    numbers = numbers[np.isfinite(numbers)]
    written = Storage(kind, 2000).written
    with engine.connect() as connection:
        for part in np.array_split(numbers, 40):
            sent = literal(part.astype(np.float32), written)
            got = np.array(connection.scalar(select(cast(cast(sent, written), ARRAY(REAL)))), dtype=number)
            assert got.tobytes() == part.tobytes()


def test_a_vector_that_is_written_passes() -> None:
    written = Storage("halfvec", 3).written
    once = written.write(np.array([0.1, -2.0, 65504.0], dtype=np.float32))
    assert once == "[0.099976,-2,65504]"
    assert written.write(once) is once


def test_a_bit_index_is_asked_by_hamming_distance(engine: Engine) -> None:
    filled(engine, storage="bit")
    with engine.connect() as connection:
        connection.execute(text("set enable_seqscan = off"))
        ids = text("explain select id from article_chunk order by bits <~> repeat('1', 64)::bit(64) limit 5")
        assert "article_chunk_dense_idx" in "\n".join(connection.scalars(ids))


def test_bits_are_those_of_pgvector(session: Session) -> None:
    vector = np.random.default_rng(0).standard_normal(64).astype(np.float32)
    vector[3] = 0
    quantised = session.scalar(text("select binary_quantize(cast(:v as vector))::text"), {"v": str(vector.tolist())})
    assert Storage.quantise(vector) == quantised


@pytest.mark.parametrize("options", [{"storage": "byte"}, {"dimensions": 65}, {"dimensions": 0}, {"template": "{x}"}])
def test_what_cannot_be_stored_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        articles(encoder=WordHashEncoder(64), **options)


def test_a_template_makes_the_text_that_is_encoded_and_offsets_refer_to_it(engine: Engine) -> None:
    rows = [{"id": 1, "title": "Lamp", "body": "Bright. " * 200}, {"id": 2, "title": "Chair", "body": None}]
    shop = filled(engine, rows, template="{title}. Description: {body}")
    with Session(engine) as session:
        chunks = session.scalars(select(shop.index.Chunk).order_by(shop.index.Chunk.id)).all()
        whole = body_of(shop.index, {"title": "Lamp", "body": ("Bright. " * 200).strip()})
        assert [chunk.text for chunk in chunks if chunk.article_id == 2] == ["Chair."] or chunks[-1].text == "Chair"
        lamp = [chunk for chunk in chunks if chunk.article_id == 1]
        assert len(lamp) > 1
        assert all(whole[chunk.start : chunk.stop] == chunk.text for chunk in lamp)


def test_a_reranker_orders_the_first_hits_anew(engine: Engine) -> None:
    shop = filled(engine)
    search = HybridSearch(shop.index)

    def longest(query: str, texts: Sequence[str], /) -> list[float]:
        return [float(len(text)) for text in texts]

    with Session(engine) as session:
        fused = search.search(session, "oak chair", limit=20)
        hits = search.search(session, "oak chair", limit=5, rerank=Rerank(longest, top=20))
        expected = sorted(fused, key=lambda hit: -len(hit.chunk.text))[:5]
        assert [hit.document.id for hit in hits] == [hit.document.id for hit in expected]
        assert [hit.rerank_score for hit in hits] == [len(hit.chunk.text) for hit in hits]
        assert hits.degraded is None


def test_a_reranker_that_fails_leaves_the_fused_order_and_says_so(engine: Engine) -> None:
    shop = filled(engine)
    search = HybridSearch(shop.index)

    def broken(query: str, texts: Sequence[str], /) -> list[float]:
        raise RuntimeError("no model")

    with Session(engine) as session:
        fused = search.search(session, "oak chair", limit=5)
        hits = search.search(session, "oak chair", limit=5, rerank=Rerank(broken))
        assert [hit.document.id for hit in hits] == [hit.document.id for hit in fused]
        assert hits.degraded is not None
        assert "no model" in hits.degraded


class CountingEncoder(WordHashEncoder):
    """Counts how often a query was encoded."""

    asked = 0

    def encode_queries(self, texts: Sequence[str]) -> Any:
        self.asked += len(texts)
        return super().encode_queries(texts)


@pytest.mark.parametrize("shared", [False, True])
def test_a_repeated_query_is_encoded_once(engine: Engine, shared: bool) -> None:
    encoder = CountingEncoder()
    index = articles(encoder=encoder).index
    for _ in range(2):
        search = HybridSearch(index, store=SharedStore(engine) if shared else LRU(10))
        assert search.encode("red chair").dense == pytest.approx(search.encode("red chair").dense)
    assert encoder.asked == (1 if shared else 2)


def test_the_shared_cache_holds_no_text_and_is_bounded(engine: Engine) -> None:
    index = articles(encoder=WordHashEncoder()).index
    search = HybridSearch(index, store=SharedStore(engine, size=0, shared_size=5))
    for n in range(40):
        search.encode(f"secret {n}")
    with engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(encodings)) <= 6
        assert "secret" not in str(connection.execute(select(encodings)).all())


def test_a_cache_that_cannot_be_reached_is_no_error(bare_database: Any) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(bare_database)  # without our schema
    search = HybridSearch(articles(encoder=WordHashEncoder()).index, store=SharedStore(engine))
    assert search.encode("red chair").dense is not None
    engine.dispose()
