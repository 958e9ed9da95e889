"""The engine leaves documents out by bounds: on judged collections, with their questions, it changes no result."""

import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.orm import Session

from hybridsearch.evaluation import Collection, read_collection
from hybridsearch.lexical import lexical
from hybridsearch.postings import compact
from tests.support.full_scoring import count_terms, full_scoring
from tests.support.models import articles
from tests.support.shelf import built, drop, put

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
QUESTIONS = 15
DOCUMENTS = 4000


@pytest.mark.parametrize("name", ["scifact", "cmrc2018"])
def test_the_best_are_those_of_full_scoring(name: str, engine: Engine, session: Session) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the judged collection {name} is not at {DATA}")
    collection = read_collection(DATA / name)
    shop = articles(fields={"title": 2.0, "body": 1.0})
    shop.Base.metadata.create_all(engine)
    rows = [
        {"id": number, "title": document["title"], "body": document["text"]}
        for number, document in enumerate(collection.documents(), 1)
    ]
    # Three states of a document: merged, merged and removed since, pending; and three ranges of numbers.
    third = -(-(len(rows) - 100) // 3)
    for number in range(3):
        sequence = func.pg_get_serial_sequence(shop.index.documents.name, "id")
        session.execute(select(func.setval(sequence, 16_000 * number + 1)))
        put(session, shop, rows[number * third : min((number + 1) * third, len(rows) - 100)])
    session.commit()
    while compact(session, shop.index, documents=3000):
        session.commit()
    for key in range(1, 1000, 97):
        drop(session, shop, key)
    put(session, shop, rows[-100:])
    count_terms(session, shop.index)
    session.commit()
    assert ranges(session, shop) == 3
    for question in random.Random(1).sample(sorted(collection.queries.values()), QUESTIONS):
        scores = {row[0]: row.score for row in session.execute(full_scoring(shop.index, question, len(rows)))}
        best = list(scores.values())
        for k in (1, 10, 100, 1000):
            found = session.execute(lexical(shop.index, question, candidates=k)).all()
            assert [-row.distance for row in found] == pytest.approx(best[:k], rel=1e-6)
            assert [-row.distance for row in found] == pytest.approx([scores[row[0]] for row in found], rel=1e-6)
        for share in (2, 50):
            some = shop.Article.id % share == 0
            found = session.execute(lexical(shop.index, question, candidates=10, where=some)).all()
            expected = [score for key, score in scores.items() if key % share == 0][:10]
            assert [-row.distance for row in found] == pytest.approx(expected, rel=1e-6)


def ranges(session: Session, shop: Any) -> int:
    """How many ranges have rows: one is the sample that the threshold comes from, the others are left out by it."""
    place = shop.index.postings.c.place
    return session.scalar(select(func.count(place.distinct())).where(place >= 0)) or 0


@pytest.mark.parametrize("name", ["cisi", "cranfield", "icecat-chorus", "npl", "load-wordnet-glosses"])
def test_pruning_changes_no_result_of_a_collection_built_at_once(name: str, engine: Engine, session: Session) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the collection {name} is not at {DATA}")
    judged = (DATA / name / "queries.jsonl").is_file()
    collection = read_collection(DATA / name) if judged else Collection(DATA / name, {}, {})
    shop = articles(fields={"title": 2.0, "body": 1.0})
    shop.Base.metadata.create_all(engine)
    rows = [
        {"id": number, "title": document["title"], "body": document["text"]}
        for number, document in enumerate(islice(collection.documents(), DOCUMENTS), 1)
    ]
    session.execute(insert(shop.Article), rows)
    built(session, shop, most=len(rows) // 3 + 1)  # each step begins a range
    assert ranges(session, shop) == 3
    count_terms(session, shop.index)
    session.commit()
    for question in questions(collection, rows):
        scores = {row[0]: row.score for row in session.execute(full_scoring(shop.index, question, len(rows)))}
        for k in (1, 10, 100, 1000):
            found = session.execute(lexical(shop.index, question, candidates=k)).all()
            assert [-row.distance for row in found] == pytest.approx(list(scores.values())[:k], rel=1e-6)
            assert [-row.distance for row in found] == pytest.approx([scores[row[0]] for row in found], rel=1e-6)


def questions(collection: Collection, rows: list[dict[str, Any]]) -> list[str]:
    """Some of the collection's own; where it has none, some words of some documents."""
    chance = random.Random(2)
    if collection.queries:
        return chance.sample(sorted(collection.queries.values()), 6)
    texts = [f"{row['title']} {row['body']}".split() for row in chance.sample(rows, 6)]
    return [" ".join(chance.sample(words, min(len(words), 6))) for words in texts]
