"""Did you mean: unknown words put right, by words that the caller could find."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, QueryError
from hybridsearch.backfill import backfill
from hybridsearch.suggestion import edits
from tests.support.models import articles

ROWS = [
    ("Red chair", "Comfortable chairs made of oak."),
    ("Forgotten password", "Computers ask for a password."),
    ("Secretproject", "Only the other tenant knows."),
    ("Größe und Straße", "Übergröße"),
    ("Wireless mouse", "Wired keyboard"),
]


@pytest.fixture(params=["pg_trgm", "plain", "memory"])
def shop(request: pytest.FixtureRequest, engine: Engine) -> SimpleNamespace:
    shop = articles(engine="memory" if request.param == "memory" else "sql")
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        if request.param == "pg_trgm":
            session.execute(text('create schema "Odd name"'))
            session.execute(text('create extension pg_trgm with schema "Odd name"'))
        rows = [{"id": n, "title": title, "body": body} for n, (title, body) in enumerate(ROWS, 1)]
        session.execute(insert(shop.Article), rows)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def suggestion(shop: SimpleNamespace, session: Session, query: str, **options: Any) -> str | None:
    return shop.search.search(session, query, **options).suggestion


CASES: list[tuple[str, str | None]] = [
    ("red chiar", "red chair"),
    ("passwrod", "password"),
    ("Forgoten PASWORD!", "forgotten password!"),
    ('red "oak" -pasword chiar', 'red "oak" -pasword chair'),
    ("compuetrs", "computers"),
    ("übergrösse", "übergröße"),
    ("wireles", "wireless"),  # as near to wire, the stem of wired
    ("red chair", None),
    ("with the chair", None),
    ("xylophone", None),
    ("chiar chair", "chair chair"),
    ("dv7-1211eb", None),
    ("椅子", None),
]


@pytest.mark.parametrize("legs", [None, ["lexical"]])
def test_an_unknown_word_is_put_right(shop: SimpleNamespace, session: Session, legs: list[str] | None) -> None:
    for query, expected in CASES:
        assert suggestion(shop, session, query, legs=legs) == expected, query


def test_what_where_leaves_out_is_neither_known_nor_suggested(shop: SimpleNamespace, session: Session) -> None:
    assert suggestion(shop, session, "secretprojekt") == "secretproject"
    assert suggestion(shop, session, "secretprojekt", where=shop.Article.id < 3) is None
    assert suggestion(shop, session, "pasword", where=shop.Article.id != 2) is None


def test_what_row_level_security_hides_is_neither_known_nor_suggested(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    # Whether a word that the reader does not see is there must not be told by what is said of it either.
    session.execute(insert(shop.Article), [{"id": 9, "title": "Secretprojects chaor", "body": None}])
    session.commit()
    backfill(engine, shop.index)
    for statement in (
        "alter table article enable row level security",
        "create policy own on article using (id < 3)",
        "create role reader",
        "grant usage on schema hybridsearch to reader",
        "grant select on all tables in schema public, hybridsearch to reader",
        "set role reader",
    ):
        session.execute(text(statement))
    assert suggestion(shop, session, "secretprojekt") is None
    assert suggestion(shop, session, "chaor") == "chair"  # hidden, and so as unknown as any
    assert suggestion(shop, session, "pasword") == "password"
    session.rollback()


def test_it_is_looked_for_where_the_words_do_not_fill_the_limit(shop: SimpleNamespace, session: Session) -> None:
    assert suggestion(shop, session, "chair pasword", limit=1) is None
    assert suggestion(shop, session, "chair pasword", limit=2) == "chair password"
    assert suggestion(shop, session, "chair pasword", limit=1, suggest=True) == "chair password"
    assert suggestion(shop, session, "pasword", suggest=False) is None
    with pytest.raises(QueryError, match="suggest is 'yes': give True or False"):
        suggestion(shop, session, "pasword", suggest="yes")


LETTERS = st.text("abc", max_size=6)


@given(LETTERS, LETTERS)
def test_edits_are_a_distance(one: str, other: str) -> None:
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert abs(len(one) - len(other)) <= edits(one, other) <= max(len(one), len(other))


@given(LETTERS, LETTERS, st.integers(0, 4))
def test_edits_are_told_up_to_a_bound(one: str, other: str, most: int) -> None:
    assert edits(one, other, most) == min(edits(one, other), most + 1)


@given(LETTERS, LETTERS)
def test_edits_are_those_of_the_definition(one: str, other: str) -> None:
    @cache
    def distance(i: int, j: int) -> int:
        if not (i and j):
            return i + j
        ways = [distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (one[i - 1] != other[j - 1])]
        if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
            ways.append(distance(i - 2, j - 2) + 1)
        return min(ways)

    assert edits(one, other) == distance(len(one), len(other))


@pytest.mark.parametrize(("one", "other", "count"), [("chiar", "chair", 1), ("kitten", "sitting", 3), ("", "ab", 2)])
def test_a_swap_is_one_edit(one: str, other: str, count: int) -> None:
    assert edits(one, other) == count
