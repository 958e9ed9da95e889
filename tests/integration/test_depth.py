"""The lexical index with many postings of a word: rows of ranges, lists that grow into them, removals, several spans.

The sequences of test_lexical.py have six documents; here some hundreds at a time are put, merged, removed, numbered
anew, built and rebuilt, and after each step the best are held against the formula over the rows.
"""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, func, insert, select
from sqlalchemy.orm import Session

from hybridsearch.indexing import clear
from hybridsearch.lexical import lexical
from hybridsearch.postings import build, clean, compact, forget_terms, gather, prepare, rebuild, remove_documents
from tests.support import oracles
from tests.support.models import articles
from tests.support.shelf import put

WEIGHTS = {"title": 2.5, "body": 1.0}
WORDS = [f"w{first}{second}" for first in "abcdef" for second in "abcdef"]
COMMON = [1 / (place + 1) for place in range(len(WORDS))]
WORDY = (0, 3, 10, 10, 40)  # words of a document


def rows(first: int, count: int, chance: random.Random) -> list[dict[str, Any]]:
    """Articles of words of which few are in most; of a hundred documents, one has a word 700 times."""
    made = []
    for key in range(first, first + count):
        words = chance.choices(WORDS, COMMON, k=chance.choice(WORDY))
        often = [chance.choice(WORDS)] * (700 if chance.random() < 0.01 else 0)
        made.append({"id": key, "title": " ".join(words[:3]), "body": " ".join([*words[3:], *often])})
    return made


def check(session: Session, shop: Any, chance: random.Random) -> None:
    counted: dict[int, Counter[str]] = {}
    for row in session.execute(select(shop.Article.__table__)):
        counted[row.id] = Counter()
        for name, weight in WEIGHTS.items():
            for word in getattr(row, name).split():
                counted[row.id][word] += weight
    for query in (chance.sample(WORDS[:6], 1), chance.choices(WORDS, COMMON, k=3), chance.sample(WORDS, 5)):
        expected = oracles.bm25(Counter(query), counted) if counted else {}
        best = sorted(expected.values(), reverse=True)
        for k in (1, 10, 100):
            found = session.execute(lexical(shop.index, " ".join(query), candidates=k)).all()
            assert [-row.distance for row in found] == pytest.approx(best[:k], rel=1e-6)
            assert [-row.distance for row in found] == pytest.approx([expected[row[0]] for row in found], rel=1e-6)
    few = sorted((score for key, score in expected.items() if key % 7 == 0), reverse=True)[:10]
    leg = lexical(shop.index, " ".join(query), candidates=10, where=shop.Article.id % 7 == 0)
    assert [-row.distance for row in session.execute(leg)] == pytest.approx(few, rel=1e-6)


def do(session: Session, shop: Any, step: tuple[Any, ...], first: int, chance: random.Random) -> None:
    index = shop.index
    match step:
        case ("put", count):
            put(session, shop, rows(first, count, chance))
        case ("build", count):
            session.execute(insert(shop.Article), rows(first, count, chance))
            prepare(session, index)
            while build(session, index, most=120):
                pass
            session.execute(delete(index.changes))
        case ("drop", share):
            gone = shop.Article.id % share == 0
            numbers = select(index.documents.c.id).join(shop.Article, shop.Article.id == index.documents.c.article_id)
            remove_documents(session, index, session.scalars(numbers.where(gone)).all())
            session.execute(delete(shop.Article).where(gone))
            session.execute(delete(index.changes))
        case ("merge", most):
            compact(session, index, documents=most)
        case ("jump", number):
            sequence = func.pg_get_serial_sequence(index.documents.name, "id")
            last = session.scalar(select(func.max(index.documents.c.id))) or 0
            session.execute(select(func.setval(sequence, max(number, last + 1))))
        case ("rebuild", most):
            next(rebuild(session, index, most=most), None)
        case ("gather",):
            gather(session, index, most=100)
        case ("clean",):
            list(clean(session, index))
        case ("forget",):
            forget_terms(session, index, range(1, 100))


STEP = st.one_of(
    st.tuples(st.just("put"), st.integers(70, 250)),
    st.tuples(st.just("build"), st.integers(70, 250)),
    st.tuples(st.just("drop"), st.integers(2, 5)),
    st.tuples(st.just("merge"), st.integers(60, 300)),
    st.tuples(st.just("merge"), st.just(10_000)),
    st.tuples(st.just("jump"), st.sampled_from([15_900, 1_048_500])),  # across a range, and across a span
    st.tuples(st.just("rebuild"), st.sampled_from([1, 100_000])),
    st.tuples(st.sampled_from(["gather", "clean", "forget"])),
)
# One that reaches every part of the format, whatever hypothesis comes upon.
ALL = [
    ("jump", 1_048_500),
    ("build", 200),
    ("put", 150),
    ("drop", 3),
    ("merge", 300),
    ("gather",),
    ("rebuild", 1),
    ("clean",),
    ("forget",),
]


def test_after_any_sequence_of_many_the_best_are_those_of_the_rows(engine: Engine) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    reached = Counter[str]()

    @given(steps=st.lists(STEP, min_size=4, max_size=8), seed=st.integers(0, 1000))
    @example(steps=ALL, seed=1)
    @settings(max_examples=10)
    def run(steps: list[Any], seed: int) -> None:
        chance, first = random.Random(seed), 1
        with Session(engine) as session:
            session.execute(delete(shop.Article))
            clear(session, shop.index)
            for step in [("put", 150), ("merge", 200), *steps]:  # words with 64 postings in a range from the start
                do(session, shop, step, first, chance)
                session.commit()
                first += step[1] if step[0] in ("put", "build") else 0
                check(session, shop, chance)
                reached.update(shapes(session, shop))
                session.commit()
            while compact(session, shop.index):
                pass
            held = session.scalar(select(func.sum(shop.index.postings.c.documents)))
            assert held == session.scalar(select(func.sum(func.cardinality(shop.index.documents.c.terms))))

    run()
    assert reached.keys() == {"range", "ranges", "spans", "removals", "frequencies", "pending"}


def shapes(session: Session, shop: Any) -> list[str]:
    """What there is of the format at the moment."""
    held, pending = shop.index.postings.c, shop.index.pending
    found = session.execute(
        select(
            func.count(held.place.distinct()).filter(held.place >= 0).label("ranges"),
            func.count(held.place.distinct()).filter(held.place.between(-(2**31) + 1, -1)).label("spans"),
            func.count().filter(held.place == -(2**31)).label("removals"),
            func.count().filter(held.frequencies.is_not(None)).label("frequencies"),
            select(func.count()).select_from(pending).scalar_subquery().label("pending"),
        )
    ).one()
    wanted = {"range": found.ranges > 0, "ranges": found.ranges > 1, "spans": found.spans > 1}
    wanted |= {name: getattr(found, name) > 0 for name in ("removals", "frequencies", "pending")}
    return [name for name, there in wanted.items() if there]
