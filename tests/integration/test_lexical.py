"""BM25 in SQL against the formula written out, over the same terms."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Text, cast, delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch import BM25
from hybridsearch.backfill import backfill
from hybridsearch.lexical import lexical, terms_of
from tests.support import oracles
from tests.support.models import articles


def terms(session: Session, text: str | None, config: str = "english") -> Counter[str]:
    if text is None:
        return Counter()
    found = terms_of(cast(literal(config), REGCONFIG), literal(text, Text))
    return Counter({row.term: row.frequency for row in session.execute(select(found))})


def documents(session: Session, shop: Any, config: str = "english") -> dict[int, Counter[str]]:
    """The weighted term counts of every article."""
    counted = {}
    for article in session.scalars(select(shop.Article)):
        total: Counter[str] = Counter()
        for name, weight in shop.index.fields.items():
            for term, times in terms(session, getattr(article, name), config).items():
                total[term] += weight * times
        counted[article.id] = total
    return counted


def scores(session: Session, shop: Any, query: str, candidates: int = 1000) -> dict[int, float]:
    return {row[0]: -row.distance for row in session.execute(lexical(shop.index, query, candidates=candidates))}


def fill(engine: Engine, shop: Any, rows: list[dict[str, Any]]) -> None:
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(shop.Article), rows)
        session.commit()
    backfill(engine, shop.index, page_size=3)


ROWS = [
    {"id": 1, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
    {"id": 2, "title": "Blue table", "body": None},
    {"id": 3, "title": "the of and", "body": ""},
    {"id": 4, "title": "Oak", "body": "red " * 10_000},
    {"id": 5, "title": "Oak shelf", "body": "for red books and blue books"},
    {"id": 6, "title": "红色的椅子和桌子", "body": "橡木椅子 oak"},
    {"id": 7, "title": "DV7-1211ea", "body": "part 006R90321 in C++ at 2.13GHz"},
    {"id": 8, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
]
QUERIES = [
    "red",
    "red chair",
    "oak oak red",
    "blue books on a shelf",
    "椅子",
    "006r90321",
    "dv7-1211ea c++",
    "nothing here",
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize(
    "options", [{}, {"fields": {"title": 2.5, "body": 1.0}}, {"bm25": BM25(k1=0.9, b=0.4)}], ids=str
)
def test_scores_equal_the_formula(engine: Engine, session: Session, query: str, options: dict[str, Any]) -> None:
    shop = articles(**options)
    fill(engine, shop, ROWS)
    bm25 = shop.index.bm25
    expected = oracles.bm25(terms(session, query), documents(session, shop), k1=bm25.k1, b=bm25.b)
    assert scores(session, shop, query) == pytest.approx(expected, rel=1e-6)


def test_ties_are_broken_by_key_and_the_limit_keeps_the_lowest(engine: Engine, session: Session) -> None:
    shop = articles()
    fill(engine, shop, [{"id": n, "title": "same words", "body": None} for n in (5, 3, 9, 1, 7)])
    assert list(scores(session, shop, "words", candidates=3)) == [1, 3, 5]


def test_a_word_ten_thousand_times_is_counted_ten_thousand_times(engine: Engine, session: Session) -> None:
    assert terms(session, "word " * 10_000) == {"word": 10_000}


def test_a_text_over_the_limit_of_a_tsvector_is_counted_whole(session: Session) -> None:
    text = " ".join(f"w{n}" for n in range(150_000))
    counted = terms(session, text, "simple")
    assert len(text) > 2**20
    assert all(counted[f"w{n}"] == 1 for n in range(0, 150_000, 997))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("向量数据库", {"向量", "量数", "数据", "据库"}),
        ("東", {"東"}),
        ("ภาษาไทย", {"ภา", "าษ", "ษา", "าไ", "ไท", "ทย"}),
        ("한국어 검색", {"한국", "국어", "검색"}),
        ("PostgreSQL全文検索 fast", {"postgresql", "全文", "文検", "検索", "fast"}),
        ("C++ and C#", {"c++", "c#", "c"}),
        ("", set()),
        ("   \n\t ", set()),
    ],
)
def test_terms_of(session: Session, text: str, expected: set[str]) -> None:
    assert set(terms(session, text)) == expected


@pytest.mark.parametrize("code", ["DV7-1211ea", "006R90321", "2.13GHz", "AN/PRC-77", "TN-2110", "R2-D2", "C++"])
def test_a_code_is_found_whole_in_any_case_and_by_the_text_that_holds_it(session: Session, code: str) -> None:
    inside = terms(session, f"The {code}, as sold.")
    assert code.lower() in inside
    assert set(terms(session, code.lower())) <= set(inside) | {"an"}


WORDS = ["red", "blue", "oak", "chair", "table", "椅子", "x1", "the"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 6), TEXT, st.none() | TEXT),
    st.tuples(st.just("drop"), st.integers(1, 6)),
    st.tuples(st.just("index")),
)


@given(steps=st.lists(STEP, min_size=1, max_size=12), query=TEXT.filter(str.strip))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_of_writes_ends_in_the_scores_of_the_rows(steps: list[Any], query: str, engine: Engine) -> None:
    shop = articles(fields={"title": 2.0, "body": 1.0})
    shop.Base.metadata.drop_all(engine)
    shop.Base.metadata.create_all(engine)
    for step in [*steps, ("index",)]:
        if step[0] == "index":
            backfill(engine, shop.index, page_size=2)
            continue
        with Session(engine) as session, session.begin():
            if step[0] == "drop":
                session.execute(delete(shop.Article).where(shop.Article.id == step[1]))
            else:
                session.merge(shop.Article(id=step[1], title=step[2], body=step[3]))
    with Session(engine) as session:
        rows = documents(session, shop)
        expected = oracles.bm25(terms(session, query), rows) if rows else {}
        assert scores(session, shop, query) == pytest.approx(expected, rel=1e-6)
        assert session.scalar(select(func.count()).select_from(shop.index.documents)) == len(rows)
