"""What is searched for and on what: words, vectors or both; a Session, a Connection and their async forms."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL, Engine, func, literal, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import Hit, HybridSearch, Query, QueryError, Rerank
from hybridsearch.backfill import backfill
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles, fill

DIMENSIONS = WordHashEncoder().dimensions


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles()
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def plain(hits: list[Hit]) -> list[tuple[Any, ...]]:
    return [(hit.document.id, hit.document.title, hit.score, hit.ranks, hit.chunk.text) for hit in hits]


def test_a_connection_gives_what_a_session_gives(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    expected = plain(shop.search.search(session, "red oak chair"))
    with engine.connect() as connection:
        assert plain(shop.search.search(connection, "red oak chair")) == expected


def test_a_search_on_a_connection_takes_part_in_its_transaction(shop: SimpleNamespace, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(shop.Article.__table__.delete().where(shop.Article.id == 1))
        assert {hit.document.id for hit in shop.search.search(connection, "chair")} == {2, 3, 4}
        connection.commit()
        assert connection.scalar(select(func.count()).select_from(shop.Article)) == 3


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
def test_an_async_connection_gives_the_same(
    shop: SimpleNamespace, session: Session, database: URL, driver: str
) -> None:
    async def main() -> list[Hit]:
        engine = create_async_engine(database.set(drivername=driver))
        try:
            async with engine.connect() as connection:
                hits: list[Hit] = await shop.search.search_async(connection, "red oak chair")
                return hits
        finally:
            await engine.dispose()

    assert plain(asyncio.run(main())) == plain(shop.search.search(session, "red oak chair"))


def test_a_vector_alone_is_searched_by_the_dense_leg(shop: SimpleNamespace, session: Session) -> None:
    query = shop.search.encode("red chair")
    hits = shop.search.search(session, Query(dense=query.dense.tolist()))
    assert plain(hits) == plain(shop.search.search(session, query, legs=["dense"]))
    assert {frozenset(hit.ranks) for hit in hits} == {frozenset({"dense"})}


def test_words_alone_need_no_encoder(shop: SimpleNamespace, session: Session) -> None:
    shop.search.encoder.encode_queries = None
    hits = shop.search.search(session, Query("red chair"))
    assert plain(hits) == plain(shop.search.search(session, "red chair", legs=["lexical"]))


VECTOR = [1.0] * DIMENSIONS


@pytest.mark.parametrize(
    ("query", "options", "said"),
    [
        (Query(), {}, "the query is empty: give a text, a dense vector or sparse weights"),
        (Query(" "), {}, "the query is empty: give at least one word"),
        (Query(dense=VECTOR[1:]), {}, rf"shape \({DIMENSIONS - 1},\), index \"article\" takes {DIMENSIONS} dimensions"),
        (Query(dense=[VECTOR]), {}, r"the dense vector has shape"),
        (Query(dense=[*VECTOR[1:], float("nan")]), {}, "holds NaN, infinity or numbers beyond"),
        (Query(dense=[*VECTOR[1:], float("inf")]), {}, "holds NaN, infinity or numbers beyond"),
        (Query(dense=10**400), {}, "the dense vector is not one of numbers"),
        (Query(dense=[*VECTOR[1:], 1e30]), {}, "holds NaN, infinity or numbers beyond"),
        (Query(dense=[0.0] * DIMENSIONS), {}, "0 in every dimension"),
        (Query(dense=[1e-20] * DIMENSIONS), {}, "0 in every dimension"),
        (Query(dense="red chair"), {}, "the dense vector is not one of numbers"),
        (Query(dense=[{}]), {}, "the dense vector is not one of numbers"),
        (Query(sparse={1: 0.5}), {}, 'has no sparse leg: encoder "word-hash" has no sparse head'),
        (Query("chair"), {"legs": ["dense"]}, "the query has nothing for leg 'dense'"),
        (Query(dense=VECTOR), {"legs": ["dense", "lexical"]}, "the query has nothing for leg 'lexical'"),
        (Query(dense=VECTOR), {"rerank": Rerank(lambda query, texts: [])}, "without words cannot be reranked"),
        ("chair", {"legs": "dense"}, "legs is 'dense': give a sequence"),
        ("chair", {"legs": [["dense"]]}, "has no leg"),
        ("chair", {"where": "id > 2"}, "where is 'id > 2': give a SQLAlchemy condition"),
        ("chair", {"where": 5}, "where is 5: give a SQLAlchemy condition"),
        ("chair", {"ef_search": 2000}, "ef_search is 2,000: give 1 to 1,000"),
        ("chair", {"size": 3}, "no option 'size': the options are limit, "),
    ],
)
def test_what_cannot_be_asked_is_refused(
    shop: SimpleNamespace, session: Session, query: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError, match=said):
        shop.search.search(session, query, **options)
    assert not session.in_transaction()


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1], "the sparse weights are a list"),
        ({-1: 1.0}, "sparse token -1: give whole numbers from 0 to 99"),
        ({100: 1.0}, "sparse token 100"),
        ({"1": 1.0}, "sparse token '1'"),
        ({True: 1.0}, "sparse token True"),
        ({1: float("nan")}, "weight nan of sparse token 1"),
        ({1: "x"}, "weight 'x' of sparse token 1"),
        (dict.fromkeys(range(16_001), 1.0), "there are 16,001 sparse weights"),
    ],
)
def test_sparse_weights_are_tokens_of_the_encoder(weights: Any, said: str) -> None:
    encoder = WordHashEncoder()
    encoder.sparse_dimensions = 100
    with pytest.raises(QueryError, match=said):
        HybridSearch(articles(encoder=encoder).index).select(Query(sparse=weights))


def test_the_statement_of_a_query_is_compiled_once(shop: SimpleNamespace) -> None:
    one = shop.search.select(Query("red", dense=VECTOR), where=shop.Article.id > 1)
    two = shop.search.select(Query("blue", dense=VECTOR[::-1]), where=shop.Article.id > literal(2))
    assert one._generate_cache_key() is not None
    assert one._generate_cache_key() == two._generate_cache_key()
