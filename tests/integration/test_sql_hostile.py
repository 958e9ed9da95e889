"""Hostile values in every argument of the SQL functions: rows of the caller's own or a refusal of ours, no other error.

A refusal is invalid_parameter_value (22023). HYBRIDSEARCH_FUZZ=10000 tries as many of each (`make fuzz`).
"""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import CHAR, Connection, Engine, Numeric, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import HybridSearch, SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.query_cache import SharedStore
from tests.support.encoders import SparseWordHashEncoder

CASES = int(os.environ.get("HYBRIDSEARCH_FUZZ", "100"))
hostile = settings(max_examples=CASES)
ROLE = "memo_reader"
REFUSED = {
    "22023",  # invalid_parameter_value: ours
    "22P05",  # untranslatable_character: half a surrogate pair in JSON, which the server refuses by itself
}
DIMENSIONS, TOKENS = 32, 1000


class Base(DeclarativeBase):
    pass


class Memo(Base):
    """A row of one of two owners, with a column of each kind that a filter may name."""

    __tablename__ = "memo"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    body: Mapped[str]
    price: Mapped[Decimal | None] = mapped_column(Numeric(6, 2))
    code: Mapped[str | None] = mapped_column(CHAR(3))
    made: Mapped[datetime | None]
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    properties: Mapped[Any] = mapped_column(JSONB, nullable=True)
    words: Mapped[Any] = mapped_column(TSVECTOR, nullable=True)
    share: Mapped[float | None]
    open: Mapped[bool | None]


INDEX = SearchIndex(Memo, ["body"], encoder=SparseWordHashEncoder(DIMENSIONS))
OWN = set(range(1, 41))


@pytest.fixture(scope="module")
def reader(shared_engine: Engine) -> Iterator[Connection]:
    """A connection of a role to which the policy shows the first forty of two hundred memos."""
    Base.metadata.create_all(shared_engine)
    bodies = ("Red book", "Blue table", "A book of oak", "红色的书")
    with Session(shared_engine) as session, session.begin():
        session.add_all(
            Memo(
                id=n,
                owner=ROLE if n in OWN else "another",
                body=f"{bodies[n % 4]} {n}",
                price=Decimal(n) / 4,
                code="abc"[: n % 4],
                made=datetime(2024, 1, 1 + n % 28),
                tags=["oak", "red"][: n % 3],
                properties={"n": n % 5},
                share=n / 7,
                open=n % 2 == 0,
            )
            for n in range(1, 201)
        )
    backfill(shared_engine, INDEX)
    HybridSearch(INDEX, store=SharedStore(shared_engine)).encode("red book")
    with shared_engine.begin() as connection:
        for statement in (
            "create extension dblink",
            f"create role {ROLE}",
            f"grant usage on schema hybridsearch to {ROLE}",
            f"grant select on all tables in schema public, hybridsearch to {ROLE}",
            "alter table memo enable row level security",
            "create policy own on memo using (owner = current_user)",
        ):
            connection.exec_driver_sql(statement)
    with shared_engine.connect() as connection:
        yield connection
    with shared_engine.begin() as connection:
        connection.exec_driver_sql("drop table memo cascade")
        connection.exec_driver_sql(f"drop owned by {ROLE}")
        connection.exec_driver_sql(f"drop role {ROLE}")


FUNCTIONS = {
    "memo_search": """
        select memo_id, score
        from memo_search(
            query => :query, limit_ => cast(:limit as int), filter => cast(:filter as jsonb),
            legs => cast(:legs as text[]), weights => cast(:weights as jsonb), candidates => cast(:candidates as int),
            rrf_k => cast(:rrf_k as float8), dense => cast(:dense as vector), sparse => cast(:sparse as sparsevec),
            wait_ms => cast(:wait_ms as int), syntax => cast(:syntax as text))""",
    "hybridsearch.search": """
        select (key ->> 'id')::int as memo_id, score
        from hybridsearch.search(
            cast(:index as text), :query, limit_ => cast(:limit as int), filter => cast(:filter as jsonb),
            legs => cast(:legs as text[]), weights => cast(:weights as jsonb), candidates => cast(:candidates as int),
            rrf_k => cast(:rrf_k as float8), dense => cast(:dense as vector), sparse => cast(:sparse as sparsevec),
            wait_ms => cast(:wait_ms as int), syntax => cast(:syntax as text))""",
}  # fmt: skip

words = st.sampled_from(
    [
        "red book", "book", "", " ", "'; drop table memo; --", "%s %(x)s :name", "\\", '"red book"', "-red", "-", "re*",
        "*", "a" * 300, "a" * 10_001, "𝕏🪑", "' or 1=1", "$$", "$1", "{}", "select 1", "­", "\u202e", "红色的书",
        '"', '"red', "{{table}}", "red -book b*", "\x01", "dense", "web",
    ]
)  # fmt: skip
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | words
integers = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-1, 0, 1, 10, 1000, 1001, 60_000, 60_001])
floats = st.floats() | st.sampled_from([0.0, 1.0, 60.0, 1e9, 1.1e9, 1e-320])
json_ = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e308, 1e308) | texts | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


legs = st.sampled_from(["dense", "sparse", "lexical"])
number = st.floats(width=32, allow_nan=False, allow_infinity=False)
columns = st.sampled_from(Memo.__table__.columns.keys())
operators = st.sampled_from(["eq", "ne", "lt", "lte", "gt", "gte", "contains"])
filters = st.dictionaries(columns, json_ | st.dictionaries(operators, json_, max_size=2), max_size=2)
vectors = st.lists(number, min_size=DIMENSIONS, max_size=DIMENSIONS)
tokens = st.tuples(st.dictionaries(st.integers(1, TOKENS), number, max_size=5), st.just(TOKENS))
# Of each argument: values that fit, and others.
OF_EACH: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "index": (st.just("memo"), texts),
    "query": (st.just("red book"), texts),
    "limit": (st.integers(1, 50), integers),
    "filter": (st.none() | filters, st.dictionaries(texts, json_, max_size=2) | json_),
    "legs": (st.none() | st.lists(legs, min_size=1, max_size=3), st.lists(st.none() | texts | legs, max_size=3)),
    "weights": (
        st.none() | st.dictionaries(legs, st.floats(0.5, 100), max_size=3),
        st.dictionaries(legs | texts, json_, max_size=2) | json_,
    ),
    "candidates": (st.integers(1, 200), integers),
    "rrf_k": (st.floats(0, 100), floats),
    "dense": (st.none() | vectors, st.just([0.0] * DIMENSIONS) | st.lists(number, min_size=1, max_size=5)),
    "sparse": (
        st.none() | tokens,
        st.tuples(st.dictionaries(st.integers(1, 5), number, max_size=5), st.integers(5, 10**6)),
    ),
    "wait_ms": (st.integers(-10, 50), integers),
    "syntax": (st.sampled_from(["web", "plain"]), texts),
}


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """A value of each, of which one or two may be anything: with more, no case would come past the first check."""
    odd = draw(st.sets(st.sampled_from(list(OF_EACH)), max_size=2))
    return {name: draw(other | st.none() if name in odd else good) for name, (good, other) in OF_EACH.items()}


def sent(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the driver sends them: JSON and vectors as texts."""
    made = dict(given)
    for name in ("filter", "weights"):
        made[name] = None if given[name] is None else json.dumps(given[name])
        assume("\\u0000" not in (made[name] or ""))  # no text of PostgreSQL holds it
    if given["dense"] is not None:
        made["dense"] = f"[{','.join(map(repr, given['dense']))}]"
    if given["sparse"] is not None:
        weights, size = given["sparse"]
        made["sparse"] = f"{{{','.join(f'{token}:{weight!r}' for token, weight in weights.items())}}}/{size}"
    return made


def called(connection: Connection, function: str, values: dict[str, Any]) -> tuple[list[Any], Any]:
    """The rows that the role gets, or none and the driver's error."""
    try:
        connection.exec_driver_sql(f"set local role {ROLE}")
        return list(connection.execute(text(FUNCTIONS[function]), values)), None
    except DBAPIError as error:
        return [], error.orig
    finally:
        connection.rollback()


@hostile
@pytest.mark.parametrize("function", FUNCTIONS)
@given(given=arguments())
def test_no_argument_breaks_a_function_or_opens_what_is_closed(
    reader: Connection, function: str, given: dict[str, Any]
) -> None:
    rows, refusal = called(reader, function, sent(given))
    assert {row.memo_id for row in rows} <= OWN
    assert len(rows) <= max(0, given["limit"] or 0)
    assert [row.score for row in rows] == sorted((row.score for row in rows), reverse=True)
    assert refusal is None or (refusal.sqlstate in REFUSED and len(str(refusal).partition("\n")[0]) < 500), refusal


def test_the_cases_come_past_the_checks(reader: Connection) -> None:
    """With values that are fit, both functions find something."""
    fit = dict.fromkeys(["filter", "legs", "weights", "dense", "sparse", "wait_ms"]) | {
        "index": "memo",
        "query": "red book",
        "limit": 10,
        "candidates": 10,
        "rrf_k": 60,
        "syntax": "web",
    }
    for function in FUNCTIONS:
        rows, refusal = called(reader, function, fit)
        assert (len(rows), refusal) == (10, None)


@pytest.mark.parametrize(
    ("sparse", "said"),
    [
        ("{1:1}/5", "sparse has 5 dimensions, not 1000 as the index"),
        ("{1:1e31}/1000", "sparse holds weights beyond 1e30"),
    ],
)
def test_weights_that_do_not_fit_are_refused(reader: Connection, sparse: str, said: str) -> None:
    with pytest.raises(DBAPIError, match=said):
        reader.execute(
            text("select * from memo_search('red', sparse => cast(:sparse as sparsevec))"), {"sparse": sparse}
        )
    reader.rollback()
