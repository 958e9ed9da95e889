"""BM25 in SQL against the formula written out, over the same terms."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Text, cast, delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch import BM25
from hybridsearch.backfill import backfill
from hybridsearch.lexical import lexical, terms_of
from hybridsearch.postings import build, clean, compact, pending_count, prepare
from tests.support import oracles
from tests.support.models import articles
from tests.support.shelf import built


def terms(session: Session, text: str | None, config: str = "english") -> Counter[str]:
    if text is None:
        return Counter()
    found = terms_of(cast(literal(config), REGCONFIG), literal(text, Text))
    counted: Counter[str] = Counter()
    for row in session.execute(select(found)):
        counted[row.term] += row.frequency
    return counted


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


def scores(
    session: Session, shop: Any, query: str, candidates: int = 1000, where: Any = None, declared: Any = None
) -> dict[int, float]:
    leg = lexical(declared or shop.index, query, candidates=candidates, where=where)
    return {row[0]: -row.distance for row in session.execute(leg)}


def merge(session: Session, shop: Any) -> None:
    """Merge everything that is pending."""
    while compact(session, shop.index):
        session.commit()
    assert pending_count(session, shop.index) == 0


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
    {"id": 6, "title": "红色的椅子和桌子", "body": "橡木椅子 oak 2010-2011秋季"},
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
    "2010-2011秋季",
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
    assert pending_count(session, shop.index) == len(ROWS)
    assert scores(session, shop, query) == pytest.approx(expected, rel=1e-6)
    merge(session, shop)
    assert scores(session, shop, query) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bm25", [BM25(k1=0.9, b=0.4), BM25(b=1), BM25(b=0), BM25(k1=0), BM25(k1=3)], ids=str)
def test_other_parameters_than_the_rows_were_made_with_stay_exact(engine: Engine, session: Session, bm25: BM25) -> None:
    shop, other = articles(), articles(bm25=bm25)
    fill(engine, shop, ROWS)
    merge(session, shop)
    for query in ("red", "oak oak red chair", "006r90321"):
        expected = oracles.bm25(terms(session, query), documents(session, shop), k1=bm25.k1, b=bm25.b)
        assert scores(session, shop, query, declared=other.index) == pytest.approx(expected, rel=1e-6)


def test_a_row_of_a_range_gives_fractional_frequencies_back(engine: Engine, session: Session) -> None:
    shop = articles(fields={"title": 2.5, "body": 1.0})
    fill(engine, shop, [{"id": n, "title": "oak " * (n % 4), "body": "red oak " * (n % 7)} for n in range(1, 200)])
    merge(session, shop)
    place = shop.index.postings.c.place
    assert session.scalars(select(place).where(place >= 0)).all() == [0, 0]
    expected = oracles.bm25(terms(session, "oak red red"), documents(session, shop))
    assert scores(session, shop, "oak red red") == pytest.approx(expected, rel=1e-6)
    best = {key: expected[key] for key in oracles.best(expected, 10)}
    assert scores(session, shop, "oak red red", candidates=10) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("bm25", [BM25(), BM25(k1=3, b=1)], ids=str)
def test_a_row_of_a_range_gives_ten_thousand_occurrences_back(engine: Engine, session: Session, bm25: BM25) -> None:
    shop, other = articles(), articles(bm25=bm25)
    fill(engine, shop, [{"id": n, "title": "oak " * (n % 4), "body": "red"} for n in range(1, 200)])
    fill(engine, shop, [{"id": n, "title": "oak " * (n - 200) * 5000, "body": None} for n in (201, 202)])
    merge(session, shop)
    place = shop.index.postings.c.place
    assert session.scalars(select(place).where(place >= 0)).all() == [0, 0]
    expected = oracles.bm25(terms(session, "oak"), documents(session, shop), k1=bm25.k1, b=bm25.b)
    assert scores(session, shop, "oak", declared=other.index) == pytest.approx(expected, rel=1e-6)


def test_no_frequency_is_zero(engine: Engine, session: Session) -> None:
    """A weight of 0 is refused; nothing else could make one, which would be a posting that scores nothing."""
    shop = articles(fields={"title": 2.5, "body": 1e-6})
    fill(engine, shop, ROWS)
    waiting = session.scalars(select(shop.index.pending.c.frequencies)).all()
    assert 0 < min(min(frequencies) for frequencies in waiting if frequencies) < 1e-5
    merge(session, shop)
    codes, frequencies = shop.index.postings.c.codes, shop.index.postings.c.frequencies
    for held, kept in session.execute(select(codes, frequencies).where(codes.is_not(None))):
        assert all(code & 2047 for code in held)
        assert all(one is None or one > 0 for one in kept or ())
    expected = oracles.bm25(terms(session, "red"), documents(session, shop))
    assert min(expected.values()) > 0
    assert scores(session, shop, "red") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("merged", [False, True])
def test_a_document_of_20000_different_words_is_scored_by_each(engine: Engine, session: Session, merged: bool) -> None:
    shop = articles(config="simple")
    words = [f"w{first}{second}" for first in map(letters, range(100)) for second in map(letters, range(200))]
    fill(
        engine, shop, [{"id": 1, "title": "long", "body": " ".join(words)}, {"id": 2, "title": words[7], "body": None}]
    )
    if merged:
        merge(session, shop)
    assert session.scalar(select(func.max(func.cardinality(shop.index.documents.c.terms)))) == 20_001
    for word in (words[0], words[7], words[-1]):
        expected = oracles.bm25(Counter([word]), documents(session, shop, "simple"))
        assert scores(session, shop, word) == pytest.approx(expected, rel=1e-6)


def letters(number: int) -> str:
    """Write a number in letters, three of them: digits would make the word a code."""
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(3))


@pytest.mark.parametrize("merged", [False, True])
def test_one_document_and_none(engine: Engine, session: Session, merged: bool) -> None:
    shop = articles()
    shop.Base.metadata.create_all(engine)
    assert scores(session, shop, "red") == {}
    fill(engine, shop, [{"id": 4, "title": "red red chair", "body": None}])
    if merged:
        merge(session, shop)
    expected = oracles.bm25(Counter(["red"]), documents(session, shop))
    assert scores(session, shop, "red") == pytest.approx(expected, rel=1e-6)
    assert scores(session, shop, "nothing") == {}


@pytest.mark.parametrize("merged", [False, True])
def test_a_deleted_row_gives_its_place_to_the_next(engine: Engine, session: Session, merged: bool) -> None:
    shop = articles()
    fill(engine, shop, [{"id": n, "title": "red " * n, "body": "oak " * 9} for n in range(1, 9)])
    if merged:
        merge(session, shop)
    before = list(scores(session, shop, "red"))
    session.execute(delete(shop.Article).where(shop.Article.id.in_(before[:3])))
    assert list(scores(session, shop, "red", candidates=2)) == before[3:5]


def test_where_holds_above_twenty_thousand_allowed_documents(engine: Engine, session: Session) -> None:
    shop = articles()
    rows = [{"id": n, "title": "red " * (1 + n % 5), "body": "oak" if n % 3 else None} for n in range(1, 26_001)]
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), rows)
    built(session, shop)
    allowed = shop.Article.id % 10 != 0
    assert session.scalar(select(func.count()).select_from(shop.Article).where(allowed)) == 23_400
    full = scores(session, shop, "red oak", candidates=30_000)
    assert len(full) == 26_000
    expected = oracles.best({key: score for key, score in full.items() if key % 10}, 10)
    found = scores(session, shop, "red oak", candidates=10, where=allowed)
    assert list(found.values()) == pytest.approx([full[key] for key in expected], rel=1e-6)
    assert all(key % 10 for key in found)


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


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("2.13GHz", {"2.13ghz", "2.13", "ghz", "2", "13ghz"}),
        ("006R90321", {"006r90321", "006", "90321"}),
        ("DV7-1211ea", {"dv7-1211ea", "dv7", "1211ea", "dv", "1211", "ea"}),
    ],
)
def test_a_code_is_itself_and_its_parts(session: Session, code: str, parts: set[str]) -> None:
    assert terms(session, code) == dict.fromkeys(parts, 1)


WORDS = ["red", "blue", "oak", "chair", "table", "椅子", "x1", "the"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 6), TEXT, st.none() | TEXT),
    st.tuples(st.just("drop"), st.integers(1, 6)),
    st.tuples(st.just("index")),
    st.tuples(st.just("compact"), st.integers(1, 4)),
    st.tuples(st.just("clean")),
    st.tuples(st.just("build"), st.integers(1, 4)),
)


@given(steps=st.lists(STEP, min_size=1, max_size=12), query=TEXT.filter(str.strip), parity=st.integers(0, 1))
@settings(max_examples=25)
def test_after_any_sequence_of_writes_scores_are_those_of_the_rows(
    steps: list[Any], query: str, parity: int, engine: Engine
) -> None:
    shop = articles(fields={"title": 2.5, "body": 1.0})
    shop.Base.metadata.drop_all(engine)
    shop.Base.metadata.create_all(engine)
    for step in [*steps, ("index",)]:
        with Session(engine) as session, session.begin():
            match step:
                case ("put", key, title, body):
                    session.merge(shop.Article(id=key, title=title, body=body))
                case ("drop", key):
                    session.execute(delete(shop.Article).where(shop.Article.id == key))
                case ("compact", most):
                    compact(session, shop.index, documents=most)
                case ("clean",):
                    list(clean(session, shop.index))
                case ("build", most):
                    prepare(session, shop.index)
                    build(session, shop.index, most=most)
        if step[0] == "index":
            backfill(engine, shop.index, page_size=2)
        check(engine, shop, query, parity)
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(shop.index.documents)) == session.scalar(
            select(func.count()).select_from(shop.Article)
        )


def check(engine: Engine, shop: Any, query: str, parity: int) -> None:
    """Hold every score against the rows as they are, indexed or not."""
    with Session(engine) as session:
        rows = documents(session, shop)
        expected = oracles.bm25(terms(session, query), rows) if rows else {}
        assert scores(session, shop, query) == pytest.approx(expected, rel=1e-6)
        half = {key: score for key, score in expected.items() if key % 2 == parity}
        where = shop.Article.id % 2 == parity
        assert scores(session, shop, query, where=where) == pytest.approx(half, rel=1e-6)
        best = {key: half[key] for key in oracles.best(half, 2)}
        found = scores(session, shop, query, candidates=2, where=where)
        assert sorted(found.values()) == pytest.approx(sorted(best.values()), rel=1e-6)
