"""Hostile values in every argument: an answer within the filter, or one clear error of ours; never one of SQL.

HYBRIDSEARCH_FUZZ=10000 tries as many of each (`make fuzz`).
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from hybridsearch import Boost, Facet, Highlight, HybridSearch, HybridSearchError, Query, popularity, recency
from hybridsearch.backfill import backfill
from hybridsearch.database import explained
from tests.support.library import DIMENSIONS, Library, declare

CASES = int(os.environ.get("HYBRIDSEARCH_FUZZ", "40"))
hostile = settings(max_examples=CASES)
OWN = 2
OWN_BOOKS = {n for n in range(1, 41) if n // 4 % 4 == OWN}

words = st.sampled_from(
    [
        "red book", "book", "", " ", "\0", "\ud800", "'; drop table book; --", "%s %(x)s :name", "\\", '"red book"',
        "-red", "-", "re*", "*", "a" * 300, "𝕏🪑", "' or 1=1", "$$", "$1", "{}", "select 1", "­", "\u202e", "红色的书",
    ]
)  # fmt: skip
texts = st.text(max_size=40) | words
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 10, 100, 1000, 1001, 2**31, 2**63, 10**400, 1e-320])
junk = st.none() | st.booleans() | numbers | texts | st.binary(max_size=5) | st.lists(texts, max_size=2) | st.just({})
some = st.integers(1, 60)


def mostly(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Usable values, and others: with junk alone, no case would come past the first check."""
    return st.one_of(good, good, good, junk)


legs = st.lists(st.sampled_from(["dense", "lexical"]), min_size=1, max_size=3)
highlights = st.fixed_dictionaries(
    {},
    optional={
        "length": mostly(st.integers(40, 300)),
        "fragments": mostly(st.integers(1, 4)),
        **{name: mostly(texts) for name in ("before", "after", "separator")},
    },
)
options_of = st.fixed_dictionaries(
    {},
    optional={
        "limit": mostly(some),
        "candidates": mostly(some),
        "legs": mostly(legs),
        "fusion": mostly(st.sampled_from(["rrf", "minmax", "zscore", "leg"])),
        "weights": mostly(
            st.dictionaries(st.sampled_from(["dense", "lexical", "x"]) | texts, numbers | junk, max_size=2)
        ),
        "rrf_k": mostly(st.floats(0, 100)),
        "ef_search": mostly(some),
        "config": mostly(st.sampled_from(["german", "de", "simple", None, "klingon", "a b", "a.b.c", '"'])),
        # Long enough to answer within, or so short that nothing does.
        "deadline": mostly(st.sampled_from([None, 5, 1.5, 1e-9])),
        "snippet": mostly(st.booleans()),
        "suggest": mostly(st.none() | st.booleans()),
    },
)
vectors = st.lists(st.floats(width=32), min_size=DIMENSIONS, max_size=DIMENSIONS) | st.lists(junk, max_size=3) | junk
queries = texts | st.builds(
    Query,
    text=st.none() | texts | junk,
    dense=st.none() | vectors,
    sparse=st.none() | st.dictionaries(st.integers() | texts, junk),
)


@pytest.fixture(scope="module")
def library(shared_engine: Engine) -> Library:
    library = declare()
    library.Base.metadata.create_all(shared_engine)
    with Session(shared_engine) as session, session.begin():
        session.add_all(library.Author(id=n, country=("de", "fr")[n % 2]) for n in range(4))
        session.flush()
        titles = ("Red book", "Blue table", "A book of oak", "红色的书")
        session.add_all(
            library.Book(id=n, title=f"{titles[n % 4]} {n}", draw=n, properties={"n": n}, author_id=n // 4 % 4)
            for n in range(1, 41)
        )
    backfill(shared_engine, library.index)
    return library


@pytest.fixture
def session(shared_engine: Engine, library: Library) -> Iterator[Session]:
    with Session(shared_engine) as session:
        yield session
        session.rollback()
        assert session.scalar(select(func.count()).select_from(library.Book)) == 40


def answer(session: Session, work: Any) -> Any:
    """What the work gives; None where it was refused as it should be. Whatever else it raises is a failure."""
    try:
        return work()
    except HybridSearchError as error:
        said = str(error)
    assert 0 < len(said) < 1500
    session.rollback()
    return None


def executed(session: Session, library: Library, statement: Any) -> Any:
    """The rows of a statement; its error as a search has it, where the server alone knows that there is one."""
    with explained(library.index):
        return session.execute(statement).all()


def check(hits: Any) -> None:
    assert {hit.document.author_id for hit in hits or []} <= {OWN}
    scores = [hit.score for hit in hits or []]
    assert scores == sorted(scores, reverse=True)


@hostile
@given(query=queries, options=options_of, name=texts, value=junk)
def test_searches(library: Library, session: Session, query: Any, options: Any, name: str, value: Any) -> None:
    search = HybridSearch(library.index)
    own = {"where": library.Book.author_id == OWN}
    check(answer(session, lambda: search.search(session, query, **own, **options)))
    check(answer(session, lambda: search.search(session, query, **{**own, **options, name: value})))
    answer(session, lambda: search.search(session, "red book", where=value))
    statement = answer(session, lambda: search.select(query, **own, **options))
    if statement is not None:
        rows = answer(session, lambda: executed(session, library, statement))
        assert {row[0] for row in rows or []} <= OWN_BOOKS


@hostile
@given(query=queries, highlight=highlights)
def test_snippets(library: Library, session: Session, query: Any, highlight: Any) -> None:
    made = answer(session, lambda: Highlight(**highlight))
    own = library.Book.author_id == OWN
    if made is not None:
        hits = answer(session, lambda: HybridSearch(library.index).search(session, query, where=own, snippet=made))
        check(hits)
        for hit in hits or []:
            plain = hit.snippet.html if hit.snippet else ""
            for mark in (made.before, made.after, made.separator):
                plain = plain.replace(mark, "") if mark else plain
            assert "<" not in plain


@hostile
@given(query=queries, options=options_of, document=mostly(some))
def test_explanations(library: Library, session: Session, query: Any, options: Any, document: Any) -> None:
    search = HybridSearch(library.index)
    own = {"where": library.Book.author_id == OWN}
    found = answer(session, lambda: search.explain(session, query, **own, **options))
    check(found)
    json.dumps([one.to_dict() for one in found or []], allow_nan=False)
    missed = answer(session, lambda: search.why_not(session, query, document, **own, **options))
    if missed is not None:
        json.dumps(missed.to_dict(), allow_nan=False)
        assert missed.rank is None or document in OWN_BOOKS


@hostile
@given(query=queries, options=options_of, after=texts | junk)
def test_pages(library: Library, session: Session, query: Any, options: Any, after: Any) -> None:
    search = HybridSearch(library.index)
    own = {"where": library.Book.author_id == OWN}
    page = answer(session, lambda: search.page(session, query, **own, **options))
    check(page)
    if page is not None and page.next:
        # Did you mean … is of a first page alone.
        again = {name: value for name, value in options.items() if name != "suggest"}
        check(search.page(session, query, after=page.next, **own, **again))
    check(answer(session, lambda: search.page(session, "red book", after=after, **own)))


@hostile
@given(
    query=queries,
    name=texts | junk,
    limit=mostly(some),
    ranges=junk | st.lists(st.tuples(numbers | junk, numbers | junk), max_size=3),
    data=st.data(),
)
def test_facets(
    library: Library, session: Session, query: Any, name: Any, limit: Any, ranges: Any, data: st.DataObject
) -> None:
    search, book = HybridSearch(library.index), library.Book
    expression = data.draw(st.sampled_from([book.draw, book.title, book.properties["n"], book.author_id]) | junk)
    over = data.draw(mostly(st.sampled_from(["fused", "matches"])))
    try:
        by = {name: Facet(expression, limit=limit, ranges=ranges), "own": Facet(book.author_id)}
    except TypeError:  # what cannot be hashed is no name
        return
    where = book.author_id == OWN
    counts = answer(session, lambda: search.facets(session, query, by=by, over=over, where=where))
    assert {count.value for count in (counts or {}).get("own", [])} <= {OWN}


@hostile
@given(documents=junk | st.lists(some | junk, max_size=3), others=junk | st.lists(some, max_size=2), options=options_of)
def test_recommendations(library: Library, session: Session, documents: Any, others: Any, options: Any) -> None:
    search = HybridSearch(library.index)
    own = {"where": library.Book.author_id == OWN}
    given = {"positive": documents, "negative": others, **own, **options}
    check(answer(session, lambda: search.recommend(session, **given)))
    check(answer(session, lambda: search.similar_to(session, documents, **own, **options)))


@hostile
@given(threshold=mostly(st.floats(-1, 1)), neighbours=mostly(some), limit=mostly(some))
def test_duplicates(library: Library, session: Session, threshold: Any, neighbours: Any, limit: Any) -> None:
    search = HybridSearch(library.index)
    made = answer(session, lambda: search.duplicates(threshold, neighbours=neighbours, limit=limit))
    if made is not None:
        assert len(session.execute(made).all()) <= limit


@hostile
@given(
    names=texts | junk, weight=numbers | junk, half=numbers | junk, days=st.integers(-10, 10**9) | junk, data=st.data()
)
def test_boosts(
    library: Library, session: Session, names: Any, weight: Any, half: Any, days: Any, data: st.DataObject
) -> None:
    search, book = HybridSearch(library.index), library.Book
    if isinstance(days, int) and abs(days) <= 10**9:
        days = timedelta(days=int(days) % 999_999_999)
    made = [
        answer(session, lambda: popularity(book.draw, half=half)),
        answer(session, lambda: recency(func.now(), half_life=days)),
        data.draw(junk),
        book.draw,
    ]
    own = book.author_id == OWN
    for expression in made:
        if not isinstance(names, str):
            answer(session, lambda: search.search(session, "red book", boosts=names))
            continue
        boosts = {names: Boost(expression, weight)}
        found = answer(session, lambda given=boosts: search.search(session, "red book", boosts=given, where=own))
        check(found)
