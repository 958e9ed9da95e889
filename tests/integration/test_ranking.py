"""The engine leaves documents out by bounds: on judged collections, with their questions, it changes no result."""

import random
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert
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
    # Three states of a document: merged, merged and removed since, pending.
    for page in range(0, len(rows) - 100, 500):
        put(session, shop, rows[page : min(page + 500, len(rows) - 100)])
    session.commit()
    while compact(session, shop.index, documents=3000):
        session.commit()
    for key in range(1, 1000, 97):
        drop(session, shop, key)
    put(session, shop, rows[-100:])
    count_terms(session, shop.index)
    session.commit()
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


@pytest.mark.parametrize("name", ["cisi", "cranfield", "icecat-chorus", "npl", "load-wordnet-glosses"])
def test_pruning_changes_no_result_of_a_collection_built_at_once(name: str, engine: Engine, session: Session) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"the collection {name} is not at {DATA}")
    collection = Collection(DATA / name, {}, {})
    shop = articles(fields={"title": 2.0, "body": 1.0})
    shop.Base.metadata.create_all(engine)
    rows = [
        {"id": number, "title": document["title"], "body": document["text"]}
        for number, document in enumerate(islice(collection.documents(), DOCUMENTS), 1)
    ]
    session.execute(insert(shop.Article), rows)
    built(session, shop)
    count_terms(session, shop.index)
    session.commit()
    for row in random.Random(2).sample(rows, 6):
        words = f"{row['title']} {row['body']}".split()
        question = " ".join(random.Random(row["id"]).sample(words, min(len(words), 6)))
        scores = {row[0]: row.score for row in session.execute(full_scoring(shop.index, question, len(rows)))}
        for k in (1, 10, 100, 1000):
            found = session.execute(lexical(shop.index, question, candidates=k)).all()
            assert [-row.distance for row in found] == pytest.approx(list(scores.values())[:k], rel=1e-6)
            assert [-row.distance for row in found] == pytest.approx([scores[row[0]] for row in found], rel=1e-6)
