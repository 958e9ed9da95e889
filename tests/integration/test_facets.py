"""Facets against counts in Python, over what the legs found and over all that matches."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import URL, Engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import Count, Facet, HybridSearch, QueryError
from hybridsearch.backfill import backfill
from tests.support.library import Library, declare

BOOKS = [
    {
        "id": n,
        "title": f"{('red', 'blue', 'green')[n % 3]} book number{n}",
        "draw": n * 10,
        "properties": {"pages": n} | ({"shelf": "ABC"[n % 3 - 1]} if n % 2 else {"shelf": None}),
        "author_id": n % 4,
    }
    for n in range(1, 61)
]


@pytest.fixture
def library(engine: Engine) -> Library:
    library = declare()
    library.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(library.Author(id=n, country=("de", "fr")[n % 2]) for n in range(4))
        session.flush()
        session.add_all(library.Book(**row) for row in BOOKS)
    backfill(engine, library.index)
    return library


def counted(counts: list[Count]) -> dict[Any, int]:
    return {count.value: count.count for count in counts}


def test_over_all_matches_are_all_that_have_a_word(library: Library, session: Session) -> None:
    search = HybridSearch(library.index)
    by = {"shelf": library.Book.properties["shelf"].as_string(), "author": library.Book.author_id}
    red = [row for row in BOOKS if "red" in row["title"]]
    found = search.facets(session, "red", by=by, over="matches", candidates=5, limit=2)
    assert counted(found["shelf"]) == Counter(row["properties"]["shelf"] for row in red)
    assert counted(found["author"]) == Counter(row["author_id"] for row in red)
    where = library.Book.draw < 300
    found = search.facets(session, "red", by=by, over="matches", where=where)
    assert counted(found["author"]) == Counter(row["author_id"] for row in red if row["draw"] < 300)


@pytest.mark.parametrize("query", ["red", "gre*", "bo* -blue", "number1* newt", "red newt book59", "unheard", "of the"])
def test_over_all_matches_are_those_that_a_search_finds_by_words(
    library: Library, session: Session, query: str
) -> None:
    search = HybridSearch(library.index)
    session.execute(text("update book set title = 'newt bluebell' where id % 6 = 0"))
    session.execute(text("delete from book where id = 5"))
    session.add(library.Book(**BOOKS[0] | {"id": 100, "title": "green newt"}))
    session.flush()
    by = {"id": Facet(library.Book.id, limit=1000)}
    for where in (None, library.Book.draw < 300):
        hits = search.search(session, query, legs=["lexical"], limit=1000, where=where)
        found = search.facets(session, query, by=by, over="matches", where=where)
        assert counted(found["id"]) == {hit.document.id: 1 for hit in hits}
    assert query in ("unheard", "of the") or hits


def test_over_a_query_without_words_are_all_that_pass(library: Library, session: Session) -> None:
    search = HybridSearch(library.index)
    query = search.encode("red")
    from hybridsearch import Query

    found = search.facets(session, Query(dense=query.dense), by={"a": library.Book.author_id}, over="matches")
    assert counted(found["a"]) == dict.fromkeys(range(4), 15)


def test_over_the_fused_set_are_those_that_the_legs_found(library: Library, session: Session) -> None:
    search = HybridSearch(library.index)
    hits = search.search(session, "red book", limit=12, candidates=12, legs=["lexical"])
    by = {"author": Facet(library.Book.author_id)}
    found = search.facets(session, "red book", by=by, candidates=12, limit=1, legs=["lexical"])
    assert counted(found["author"]) == Counter(hit.document.author_id for hit in hits)
    assert [count.count for count in found["author"]] == sorted((c.count for c in found["author"]), reverse=True)


def test_ranges_have_their_order_and_their_ends(library: Library, session: Session) -> None:
    ranges = [(None, 100), (100, 300), (300, None), (10_000, 20_000)]
    by = {"draw": Facet(library.Book.draw, ranges=ranges)}
    found = HybridSearch(library.index).facets(session, "book", by=by, over="matches")["draw"]
    assert found == [Count((None, 100), 9), Count((100, 300), 20), Count((300, None), 31), Count((10_000, 20_000), 0)]


def test_ranges_that_overlap_are_counted_each_on_its_own(library: Library, session: Session) -> None:
    ranges = [(None, 100), (None, 200), (100, 200), (None, None)]
    by = {"draw": Facet(library.Book.draw, ranges=ranges)}
    for over in ("matches", "fused"):
        found = HybridSearch(library.index).facets(session, "book", by=by, over=over)["draw"]
        assert [count.count for count in found] == [9, 19, 10, 60]
        assert [count.value for count in found] == ranges


def test_a_facet_has_its_most_frequent_values(library: Library, session: Session) -> None:
    by = {"country": Facet(library.Book.author_id % 3, limit=2)}
    found = HybridSearch(library.index).facets(session, "book", by=by, over="matches")["country"]
    expected = Counter(row["author_id"] % 3 for row in BOOKS).most_common(1)
    assert (found[0].value, found[0].count) == expected[0]
    assert len(found) == 2


def test_jsonb_values_keep_their_kind(library: Library, session: Session) -> None:
    by = {"pages": Facet(library.Book.properties["pages"], limit=3), "all": library.Book.properties["none"]}
    found = HybridSearch(library.index).facets(session, "book", by=by, over="matches")
    assert {type(count.value) for count in found["pages"]} == {int}
    assert found["all"] == [Count(None, 60)]


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
def test_async_counts_are_the_same(library: Library, session: Session, database: URL, driver: str) -> None:
    search = HybridSearch(library.index)
    by = {"shelf": library.Book.properties["shelf"], "draw": Facet(library.Book.draw, ranges=[(0, 100), (100, 200)])}

    async def main() -> Any:
        engine = create_async_engine(database.set(drivername=driver))
        try:
            async with AsyncSession(engine) as opened:
                return await search.facets_async(opened, "red book", by=by)
        finally:
            await engine.dispose()

    assert asyncio.run(main()) == search.facets(session, "red book", by=by)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": {}}, "by is {}: give a mapping"),
        ({"by": ["draw"]}, r"by is \['draw'\]: give a mapping"),
        ({"by": {"x": "draw"}}, "facet 'x' is 'draw': give a SQLAlchemy expression on Book"),
        ({"by": {3: text("draw")}}, "a facet is called 3"),
        ({"by": {"x": Facet(text("draw"), limit=0)}}, "limit of facet 'x' is 0"),
        ({"by": {"x": Facet(text("draw"), ranges=[])}}, "ranges of facet 'x': give 1 to 100 pairs"),
        ({"by": {"x": Facet(text("draw"), ranges="ab")}}, "ranges of facet 'x': give 1 to 100 pairs"),
        ({"by": {"x": Facet(text("draw"), ranges=[(1, 2, 3)])}}, "ranges of facet 'x': give 1 to 100 pairs"),
        ({"by": {"x": Facet(text("draw"), ranges=[(None, 10**400)])}}, "ranges of facet 'x': 1000000"),
        ({"by": {"x": text("draw")}, "over": "everything"}, "over is 'everything': give fused or matches"),
        ({"by": {"x": text("nope")}}, 'column "nope" does not exist'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_counted_by_is_refused(
    library: Library, session: Session, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError, match=said):
        HybridSearch(library.index).facets(session, "red", **options)
