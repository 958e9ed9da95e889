"""Row-level security on the model's table holds for everything that a search gives: two roles, one index.

The roles may read the companions (a search needs to), so the policies of docs/query.md are on these as well.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import HybridSearch, Query, QueryError, SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.query_cache import SharedStore
from tests.integration.test_filters import plan, scanned
from tests.support.encoders import SparseWordHashEncoder

SOUTH, NORTH, COPIES = 3000, 12, 60


@pytest.fixture(scope="module")
def house(shared_engine: Engine) -> Iterator[SimpleNamespace]:
    """3,000 notes of one role and 12 of another, nowhere among the best of all, and copies of each in the other's."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        owner: Mapped[str]
        body: Mapped[str]

    suffix = uuid.uuid4().hex[:8]
    north, south = f"north_{suffix}", f"south_{suffix}"
    index = SearchIndex(Note, ["body"], encoder=SparseWordHashEncoder(32))
    Base.metadata.create_all(shared_engine)
    rng = np.random.default_rng(1)
    words = ["budget", "merger", "salary", "plan", "report"]
    rows = (
        [
            {"id": n, "owner": south, "body": " ".join(["merger", "plan", "zirconium", *rng.choice(words, 2)])}
            for n in range(1, SOUTH - COPIES + 1)
        ]
        + [
            {
                "id": n,
                "owner": south,
                "body": f"a plan for lunch number {n % NORTH + 1} at the lake with some colleagues",
            }
            for n in range(SOUTH - COPIES + 1, SOUTH + 1)
        ]
        + [
            {"id": SOUTH + n, "owner": north, "body": f"a plan for lunch number {n} at the lake with some colleagues"}
            for n in range(1, NORTH + 1)
        ]
    )
    with Session(shared_engine) as session, session.begin():
        session.execute(insert(Note), rows)
    backfill(shared_engine, index)
    with shared_engine.begin() as connection:
        for role in (north, south):
            connection.execute(text(f"create role {role}"))
            connection.execute(text(f"grant select on all tables in schema public to {role}"))
            connection.execute(text(f"grant usage on schema hybridsearch to {role}"))
            connection.execute(text(f"grant select on all tables in schema hybridsearch to {role}"))
        connection.execute(text("alter table note enable row level security"))
        connection.execute(text("create policy own on note using (owner = current_user)"))
        for companion in ("note_chunk", "note_document"):
            connection.execute(text(f"alter table {companion} enable row level security"))
            connection.execute(
                text(
                    f"create policy own on {companion} using "
                    f"(exists (select from note where note.id = {companion}.note_id))"
                )
            )
    yield SimpleNamespace(Note=Note, index=index, search=HybridSearch(index), north=north, south=south)
    with shared_engine.begin() as connection:
        connection.execute(text("drop table note cascade"))
        for role in (north, south):
            connection.execute(text(f"drop owned by {role}"))
            connection.execute(text(f"drop role {role}"))


@pytest.fixture(params=["policies on companions", "policy on the model alone"])
def north(request: Any, shared_engine: Engine, house: SimpleNamespace) -> Iterator[Session]:
    closed = request.param == "policies on companions"
    with shared_engine.begin() as connection:
        for companion in ("note_chunk", "note_document"):
            on = "enable" if closed else "disable"
            connection.execute(text(f"alter table {companion} {on} row level security"))
    with Session(shared_engine) as session:
        session.execute(text(f"set local role {house.north}"))
        session.execute(text("set local statement_timeout = '20s'"))
        yield session
        session.rollback()


OWN = set(range(SOUTH + 1, SOUTH + NORTH + 1))
LEGS = [["dense"], ["sparse"], ["lexical"], None]


def ids(hits: Any) -> list[int]:
    return [hit.document.id for hit in hits]


@pytest.mark.parametrize("legs", LEGS, ids=str)
def test_every_leg_is_full_of_ones_own_rows(house: SimpleNamespace, north: Session, legs: Any) -> None:
    for question in ("merger plan", "plan", "lunch plan zirconium"):
        hits = house.search.search(north, question, limit=20, legs=legs)
        assert set(ids(hits)) == OWN
    for leg in house.index.legs:
        ranks = sorted(hit.ranks[leg] for hit in hits if leg in hit.ranks)
        assert ranks == list(range(1, len(ranks) + 1))  # no gaps where others' rows are


@pytest.mark.parametrize("legs", LEGS, ids=str)
def test_a_word_of_the_others_alone_finds_nothing_by_its_words(
    house: SimpleNamespace, north: Session, legs: Any
) -> None:
    hits = house.search.search(north, "zirconium", legs=legs)
    assert set(ids(hits)) <= OWN
    assert all("lexical" not in hit.ranks and "sparse" not in hit.ranks for hit in hits)


def test_a_filter_does_not_open_what_is_closed(house: SimpleNamespace, north: Session) -> None:
    for where in (house.Note.owner == house.south, house.Note.id <= SOUTH, text("true or owner is null")):
        assert set(ids(house.search.search(north, "merger plan", where=where))) <= OWN
    assert house.search.search(north, "merger plan", where=house.Note.id <= SOUTH) == []


def test_totals_pages_and_facets_count_ones_own(house: SimpleNamespace, north: Session) -> None:
    page = house.search.page(north, "merger plan", limit=5)
    assert (page.total, page.exact) == (NORTH, True)
    after = house.search.page(north, "merger plan", limit=10, after=page.next)
    assert set(ids(page)) | set(ids(after)) == OWN
    for over in ("fused", "matches"):
        counts = house.search.facets(north, "merger plan", by={"owner": house.Note.owner}, over=over)
        assert [(count.value, count.count) for count in counts["owner"]] == [(house.north, NORTH)]


def test_a_cursor_of_another_role_shows_nothing_of_it(
    house: SimpleNamespace, shared_engine: Engine, north: Session
) -> None:
    with Session(shared_engine) as session:
        session.execute(text(f"set local role {house.south}"))
        page = house.search.page(session, "merger plan", limit=5)
        assert set(ids(page)).isdisjoint(OWN)
        assert len(page) == 5
    assert house.search.page(north, "merger plan", limit=5, after=page.next) == []


def test_others_documents_are_no_examples(house: SimpleNamespace, north: Session) -> None:
    with pytest.raises(QueryError, match="document 5 is not there"):
        house.search.similar_to(north, 5)
    with pytest.raises(QueryError, match="document 5 is not there"):
        house.search.recommend(north, positive=[SOUTH + 1], negative=[5])
    assert set(ids(house.search.similar_to(north, SOUTH + 1, limit=50))) == OWN - {SOUTH + 1}


def test_pairs_are_of_ones_own(house: SimpleNamespace, north: Session) -> None:
    """Each document's nearest are copies that the other role has."""
    assert scanned(plan(north, house.search.duplicates(0.8)), "note_chunk_dense_idx")
    north.execute(text("set local enable_indexscan = off"))  # exactly, whatever the graph missed
    pairs = north.execute(house.search.duplicates(0.8, limit=500)).all()
    assert {key for row in pairs for key in tuple(row)[:2]} == OWN
    every = north.execute(house.search.duplicates(0.8, neighbours=NORTH, limit=500)).all()
    chunks = north.query(house.index.Chunk).where(house.index.Chunk.note_id.in_(OWN))
    vectors = {chunk.note_id: np.asarray(chunk.dense) for chunk in chunks}
    near = [pair for pair in combinations(sorted(OWN), 2) if vectors[pair[0]] @ vectors[pair[1]] >= 0.801]
    assert len(near) > NORTH
    assert set(near) <= {tuple(row)[:2] for row in every}


def test_explanations_and_suggestions_know_ones_own_alone(house: SimpleNamespace, north: Session) -> None:
    assert {explanation.document.id for explanation in house.search.explain(north, "merger plan", limit=20)} == OWN
    hits = house.search.search(north, "zirconum", suggest=True)
    assert hits.suggestion is None or "zirconium" not in hits.suggestion


def test_explanations_leave_out_counts_of_all_rows_and_still_add_up(house: SimpleNamespace, north: Session) -> None:
    for one in house.search.explain(north, "lunch plan", limit=20):
        assert {term.term for term in one.lexical.terms} == {"lunch", "plan"}
        assert [one.lexical.documents, *(term.documents for term in one.lexical.terms)] == [None] * 3
        assert sum(term.score for term in one.lexical.terms) == pytest.approx(one.lexical.score, rel=1e-9)


def test_whom_no_policy_binds_is_told_the_counts(house: SimpleNamespace, shared_engine: Engine) -> None:
    with Session(shared_engine) as session:
        first = house.search.explain(session, "lunch", limit=1)[0].lexical
        assert (first.documents, first.terms[0].documents) == (SOUTH + NORTH, NORTH + COPIES)


def test_why_not_knows_ones_own_alone(house: SimpleNamespace, north: Session) -> None:
    options = {"limit": 1, "candidates": 1}
    lost = house.search.why_not(north, "merger plan", 5, **options)
    assert (lost.stage, dict(lost.legs)) == ("no such row", {})
    assert lost == replace(house.search.why_not(north, "merger plan", 10**6, **options), key={"id": 5})
    places = [house.search.why_not(north, "merger plan", key, **options).legs for key in sorted(OWN)]
    for leg in house.index.legs:
        assert sorted(legs[leg].rank for legs in places) == list(range(1, NORTH + 1))


def test_the_select_holds_too(house: SimpleNamespace, north: Session) -> None:
    vector = house.search.encode("merger plan zirconium").vector
    statement = house.search.select(Query("merger plan zirconium", dense=vector), limit=100)
    assert {row[0] for row in north.execute(statement)} == OWN


def test_companions_are_closed_by_their_policies(house: SimpleNamespace, shared_engine: Engine) -> None:
    with Session(shared_engine) as session:
        for companion in ("note_chunk", "note_document"):
            session.execute(text(f"alter table {companion} enable row level security"))
        session.execute(text(f"set local role {house.north}"))
        chunks = house.index.chunks
        assert session.scalar(select(func.count()).select_from(chunks)) == NORTH
        assert session.scalar(select(func.count()).select_from(house.index.documents)) == NORTH


def test_the_other_role_sees_its_own(house: SimpleNamespace, shared_engine: Engine) -> None:
    with Session(shared_engine) as session:
        session.execute(text(f"set local role {house.south}"))
        hits = house.search.search(session, "lunch plan", limit=100)
        assert len(hits) == 100
        assert set(ids(hits)).isdisjoint(OWN)


# Both functions, each as rows of (id, rank in each leg, note).
FUNCTIONS = {
    "note_search": """
        select note_id, rank_dense, rank_sparse, rank_lexical, note
        from note_search(:query, :limit, cast(:filter as jsonb), :legs, wait_ms => 0)""",
    "hybridsearch.search": """
        select (key ->> 'id')::int, (ranks ->> 'dense')::int as rank_dense, (ranks ->> 'sparse')::int as rank_sparse,
               (ranks ->> 'lexical')::int as rank_lexical, note
        from hybridsearch.search('note', :query, :limit, cast(:filter as jsonb), :legs, wait_ms => 0)""",
}
by_either_function = pytest.mark.parametrize("function", FUNCTIONS)


@pytest.fixture(scope="module")
def encoded(house: SimpleNamespace, shared_engine: Engine) -> None:
    """Vectors in the shared cache, where the functions find them."""
    for question in ("merger plan", "lunch plan zirconium", "zirconium", '"merger plan"', "plan -lunch", "mer* plan"):
        HybridSearch(house.index, store=SharedStore(shared_engine)).encode(question)


def called(session: Session, function: str, query: str, limit: int = 20, legs: Any = None, filter: Any = None) -> Any:
    values = {"query": query, "limit": limit, "legs": legs, "filter": filter}
    rows = session.execute(text(FUNCTIONS[function]), values).all()
    assert {row.note for row in rows} <= {None}
    return rows


@by_either_function
@pytest.mark.parametrize("legs", LEGS, ids=str)
def test_a_function_gives_a_full_page_of_ones_own(
    house: SimpleNamespace, encoded: None, north: Session, function: str, legs: Any
) -> None:
    for question in ("merger plan", "lunch plan zirconium", "mer* plan"):
        rows = called(north, function, question, legs=legs)
        assert {row[0] for row in rows} == OWN
        for place in (1, 2, 3):
            ranks = sorted(row[place] for row in rows if row[place] is not None)
            assert ranks == list(range(1, len(ranks) + 1))  # no gaps where others' rows are
        assert len(called(north, function, question, limit=5, legs=legs)) == 5


@by_either_function
@pytest.mark.parametrize("legs", LEGS, ids=str)
def test_a_function_finds_nothing_by_a_word_of_the_others(
    encoded: None, north: Session, function: str, legs: Any
) -> None:
    rows = called(north, function, "zirconium", legs=legs)
    assert {row[0] for row in rows} <= OWN
    assert {(row.rank_sparse, row.rank_lexical) for row in rows} <= {(None, None)}


@by_either_function
def test_no_filter_or_operator_of_a_function_opens_what_is_closed(
    house: SimpleNamespace, encoded: None, north: Session, function: str
) -> None:
    for filter in (f'{{"id": {{"lte": {SOUTH}}}}}', f'{{"owner": "{house.south}"}}', '{"owner": null}'):
        assert called(north, function, "merger plan", filter=filter) == []
    rows = called(north, function, "merger plan", filter=f'{{"id": {{"ne": {SOUTH + 1}}}}}')
    assert {row[0] for row in rows} == OWN - {SOUTH + 1}
    assert called(north, function, '"merger plan"') == []
    assert called(north, function, "plan -lunch") == []


@by_either_function
def test_the_other_role_gets_its_own_by_a_function(
    house: SimpleNamespace, encoded: None, shared_engine: Engine, function: str
) -> None:
    with Session(shared_engine) as session:
        session.execute(text(f"set local role {house.south}"))
        rows = called(session, function, "lunch plan zirconium", limit=100)
        assert len(rows) == 100
        assert OWN.isdisjoint({row[0] for row in rows})
