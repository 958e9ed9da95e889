"""A statement that is run again with other values gives what one of its own would."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import ARRAY, Engine, Integer, any_, case, literal, select, text
from sqlalchemy.orm import Session

from hybridsearch import Hit, HybridSearch, Query
from hybridsearch.backfill import backfill
from hybridsearch.hits import documents, hit_of
from hybridsearch.lexical import lexical
from hybridsearch.prepared import prepared
from hybridsearch.ranking import ranking
from tests.support.library import Library, declare

TITLES = ["Red chair", "Blue table", "Garden chair of oak", "Oak shelf", "A red book", "Lamp with a blue shade"]


BOOKS = 1500  # more than are few under any filter


@pytest.fixture(scope="module")
def library(shared_engine: Engine) -> Library:
    library = declare()
    library.Base.metadata.create_all(shared_engine)
    with Session(shared_engine) as session, session.begin():
        session.add_all(library.Author(id=n, country=("de", "fr")[n % 2]) for n in range(4))
        session.flush()
        session.add_all(
            library.Book(id=n, title=TITLES[n % 6], draw=n, properties={"n": n}, author_id=n % 4)
            for n in range(1, BOOKS + 1)
        )
    backfill(shared_engine, library.index)
    return library


@pytest.fixture
def session(shared_engine: Engine) -> Iterator[Session]:
    with Session(shared_engine) as session:
        yield session


def plain(hits: list[Hit]) -> list[Any]:
    return [(hit.document.id, hit.score, hit.ranks, hit.distances, hit.chunk.ordinal) for hit in hits]


def test_other_values_give_what_a_statement_of_their_own_gives(library: Library, session: Session) -> None:
    search, book = HybridSearch(library.index), library.Book
    statements = set()
    for words in ("red chair", "oak", "blue shade", "red chair"):
        for draw, countries in ((10, ["de"]), (40, ["de", "fr"]), (55, ["fr"])):
            where = (book.draw < draw) & book.author.has(library.Author.country.in_(countries)) & (book.title != words)
            plan, query = search.plan(where=where, limit=20), search.query(words)
            statement, values = prepared(library.index, query, plan)
            statements.add(statement)
            own = documents(library.index, ranking(library.index, query, plan).limit(20), query)
            expected = plain([hit_of(row) for row in session.execute(own)])
            assert plain([hit_of(row) for row in session.execute(statement, values)]) == expected
            assert plain(search.search(session, words, where=where, limit=20)) == expected
            assert all(hit[0] < draw for hit in expected)
    assert len(statements) == 1


CONDITIONS: list[tuple[str, Callable[[Library, int], Any]]] = [
    ("text", lambda library, n: text("book.draw < :n").bindparams(n=n)),
    ("JSONB", lambda library, n: library.Book.properties["n"].as_integer() < n),
    ("limit", lambda library, n: library.Book.id.in_(select(library.Book.id).order_by(library.Book.id).limit(n - 1))),
    ("list", lambda library, n: library.Book.draw.in_(range(n))),
    ("case", lambda library, n: case((library.Book.draw < n, True), else_=False)),
    ("array", lambda library, n: library.Book.draw == any_(literal(list(range(n)), ARRAY(Integer)))),
]


@pytest.mark.parametrize(("name", "condition"), CONDITIONS, ids=[name for name, _ in CONDITIONS])
def test_every_value_in_a_condition_is_that_of_its_search(
    library: Library, session: Session, name: str, condition: Callable[[Library, int], Any]
) -> None:
    search = HybridSearch(library.index)
    for n in (5, 30, 17, 5):
        hits = search.search(session, "red chair", where=condition(library, n), limit=60)
        assert {hit.document.draw for hit in hits} == set(range(1, n))


def test_other_options_are_other_statements(library: Library) -> None:
    search = HybridSearch(library.index)
    query = search.query("red chair")
    made = {
        prepared(library.index, query, search.plan(**options))[0]  # type: ignore[arg-type]
        for options in (
            {},
            {"limit": 5},
            {"candidates": 50},
            {"legs": ["dense"]},
            {"fusion": "minmax"},
            {"rrf_k": 10},
            {"weights": {"dense": 2}},
            {"where": library.Book.draw < 5},
            {"where": library.Book.draw > 5},
        )
    }
    assert len(made) == 9
    assert prepared(library.index, query, search.plan())[0] in made
    words = Query("red chair")
    assert prepared(library.index, words, search.plan(legs=["lexical"]))[0] not in made


@pytest.mark.parametrize("text", ['"red chair"', "red -chair", "cha*"])
def test_operators_are_not_lost(library: Library, session: Session, text: str) -> None:
    search = HybridSearch(library.index)
    search.search(session, "red chair")
    plan, query = search.plan(), search.query(text)
    own = documents(library.index, ranking(library.index, query, plan).limit(10), query)
    assert plain(search.search(session, text)) == plain([hit_of(row) for row in session.execute(own)])


@pytest.mark.parametrize("keep", [1, 40, 1100, 1400, BOOKS])
@pytest.mark.parametrize("candidates", [1, 4, 10, 50])
def test_the_words_under_a_filter_are_those_that_the_engine_finds_under_it(
    library: Library, session: Session, keep: int, candidates: int
) -> None:
    """Whether enough of the best of all pass, or the engine is told which do."""
    search, where = HybridSearch(library.index), library.Book.draw >= BOOKS + 1 - keep
    for words in ("red chair", "oak", "book of a blue lamp"):
        options = {"legs": ["lexical"], "where": where, "candidates": candidates, "limit": candidates}
        hits = search.search(session, words, fusion="leg", **options)  # type: ignore[arg-type]
        told = lexical(library.index, words, candidates=candidates, where=where)
        assert [hit.score for hit in hits] == [-row.distance for row in session.execute(told)]
        assert all(hit.document.draw >= BOOKS + 1 - keep for hit in hits)
