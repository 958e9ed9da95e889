"""Phrases, exclusions and prefixes act in every leg; no text is an SQL error."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, Query, Settings
from hybridsearch.backfill import backfill
from tests.support.models import articles

ROWS = [
    ("Red chair", "A comfortable oak chair, painted red."),
    ("Blue chairs", "Chair of oak. Also a red, chair-like stool."),
    ("HP DV7-1211ea", "A laptop with C++ installed, don't panic."),
    ("向量数据库与全文检索", "数据 库"),
    ("Garden", None),
    ("Gardening gloves", "to be or not to be"),
]
LEGS = [("dense", "lexical"), ("dense",), ("lexical",)]


@pytest.fixture(params=["sql", "memory"])
def shop(request: pytest.FixtureRequest, engine: Engine) -> SimpleNamespace:
    shop = articles(engine=request.param)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(
            insert(shop.Article),
            [{"id": n, "title": title, "body": body} for n, (title, body) in enumerate(ROWS, 1)],
        )
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def found(shop: SimpleNamespace, session: Session, text: str | Query, **options: Any) -> set[int]:
    return {hit.document.id for hit in shop.search.search(session, text, **options)}


PHRASES: list[tuple[str, set[int]]] = [
    ('"oak chair"', {1}),
    ('"OAK  chair" painted', {1}),
    ('"chair of oak"', {2}),
    ('"red chair"', {1, 2}),  # with whatever punctuation between the words
    ('"chairs"', {2}),
    ('"oak chair" "painted red"', {1}),
    ('"chair painted red"', {1}),
    ('"comfortable red"', set()),
    ('"DV7-1211ea"', {3}),
    ('"dv7" laptop', {3}),
    ('"C++"', {3}),
    ('"don\'t panic"', {3}),
    ('"to be or not to be"', {6}),
    ('"全文检索"', {4}),
    ('"数据库"', {4}),
    ('搜索"库与全"', {4}),
    ('"库"', {4}),
    ('"据向"', set()),
]


@pytest.mark.parametrize("legs", LEGS)
def test_a_phrase_is_in_every_document(shop: SimpleNamespace, session: Session, legs: tuple[str, ...]) -> None:
    for text, expected in PHRASES:
        if legs == ("lexical",) and text.startswith(('"to be', '"库"')):
            continue  # stop words, and half a bigram, are no terms: only the other leg finds them
        assert found(shop, session, text, legs=legs) == expected, text


EXCLUSIONS: list[tuple[str, set[int]]] = [
    ("-chair", {1, 2}),
    ("-chairs", {1, 2}),
    ("-Blue", {2}),
    ("-DV7-1211ea", {3}),
    ("-C++", {3}),
    ("-全文检索", {4}),
    ("-检全", set()),
    ('-"oak chair" -garden', {1, 5, 6}),
    ("-the", set()),
    ("-unheard", set()),
]


@pytest.mark.parametrize("legs", LEGS)
def test_what_is_excluded_is_in_none(shop: SimpleNamespace, session: Session, legs: tuple[str, ...]) -> None:
    for text, gone in EXCLUSIONS:
        assert found(shop, session, f"oak garden laptop 数据 {text}", legs=legs) == {1, 2, 3, 4, 5, 6} - gone, text


def test_a_prefix_stands_for_the_words_that_begin_with_it(shop: SimpleNamespace, session: Session) -> None:
    lexical = {"legs": ["lexical"]}
    assert found(shop, session, "gard*", **lexical) == {5, 6}
    assert found(shop, session, "GARD* -gloves", **lexical) == {5}
    assert found(shop, session, "chairs*", **lexical) == {1, 2}
    assert found(shop, session, "dv7-12*", **lexical) == {3}
    assert found(shop, session, "数*", **lexical) == {4}
    assert found(shop, session, "unheard*", **lexical) == set()
    assert found(shop, session, "gard", **lexical) == set()
    assert {hit.document.id for hit in shop.search.search(session, "gard*") if "lexical" in hit.ranks} == {5, 6}


def test_operators_and_where_hold_together(shop: SimpleNamespace, session: Session) -> None:
    assert found(shop, session, '"red chair" -blue', where=shop.Article.id > 1) == set()
    assert found(shop, session, '"red chair"', where=shop.Article.id > 1) == {2}


def test_they_hold_for_rows_that_are_not_indexed_yet(shop: SimpleNamespace, session: Session) -> None:
    session.add(shop.Article(id=7, title="New red oak chair", body="from the garden"))
    session.get_one(shop.Article, 1).body = "Painted."
    session.flush()
    lexical = {"legs": ["lexical"]}
    assert found(shop, session, '"oak chair" red', **lexical) == {7}
    assert found(shop, session, "red -garden", **lexical) == {1, 2}
    assert found(shop, session, "red -painted", **lexical) == {2, 7}
    assert found(shop, session, "red -oak", **lexical) == {1}


def test_the_encoder_sees_the_words_alone(shop: SimpleNamespace) -> None:
    asked = shop.search.encode('red "oak chair" -blue gard*')
    assert asked.text == "red oak chair gard"
    assert (asked.dense == shop.search.encode("red oak chair gard").dense).all()


def test_plain_syntax_takes_every_character_as_it_stands(shop: SimpleNamespace, session: Session) -> None:
    text = '"oak chair" -red'
    assert found(shop, session, text) == set()
    assert len(found(shop, session, shop.search.encode(text, syntax="plain"))) == len(ROWS)
    assert len(found(shop, session, Query(text), legs=["lexical"])) == 2
    plain = HybridSearch(shop.index, settings=Settings(syntax="plain"))
    assert len(plain.search(session, text)) == len(ROWS)


def test_why_not_says_that_the_query_filtered_it(shop: SimpleNamespace, session: Session) -> None:
    assert shop.search.why_not(session, "garden -chair", 1).stage == "filtered"
    assert shop.search.why_not(session, '"oak chair"', 2).stage == "filtered"
    assert shop.search.why_not(session, '"oak chair"', 1).stage == "found"


HOSTILE = st.sampled_from(
    [
        '"',
        "-",
        "*",
        " ",
        "red",
        "'",
        "\\",
        "(",
        ")",
        "[",
        "[:",
        "{",
        "}",
        "$",
        "^",
        "|",
        "%s",
        ":x",
        "椅",
        "ภา",
        "ั",
        "é",
        "e\u0301",
    ]
)


@given(text=st.lists(HOSTILE, max_size=20).map("".join) | st.text(max_size=40))
@settings(max_examples=150)
def test_no_text_is_an_sql_error(shop: SimpleNamespace, session: Session, text: str) -> None:
    for query in (text, f'red "{text}x"', f'red "x{text}"', f"red -x{text}", f"red x{text}* y"):
        if query.strip() and "\0" not in query and not any("\ud800" <= c <= "\udfff" for c in query):
            hits = shop.search.search(session, query, legs=["lexical"], snippet=True)
            assert len(hits) <= len(ROWS)
