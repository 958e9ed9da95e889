"""Articles ranked by a lexical engine, and their words as the oracles take them."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

from sqlalchemy import Engine, Text, cast, insert, literal, select
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch.backfill import backfill
from hybridsearch.engines import engine_of
from hybridsearch.lexical import terms_of
from tests.support.models import articles

ROWS = [
    {"id": 1, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
    {"id": 2, "title": "Blue table", "body": None},
    {"id": 3, "title": "the of and", "body": ""},
    {"id": 4, "title": "Oak", "body": "red " * 300},
    {"id": 5, "title": "Oak shelf", "body": "for red books and blue books"},
    {"id": 6, "title": "红色的椅子和桌子", "body": "橡木椅子 oak 2010-2011秋季"},
    {"id": 7, "title": "DV7-1211ea", "body": "part 006R90321 in C++ at 2.13GHz; naïve Ünïcödé 🪑"},
    {"id": 8, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
]
QUERIES = [
    "red",
    "red chair",
    "oak oak red",
    "blue books on a shelf",
    "椅子",
    "dv7-1211ea c++",
    "ünïcödé",
    "nothing here",
]


def filled(engine: Engine, kind: str, **options: Any) -> Any:
    """Eight articles, indexed for the engine."""
    shop = articles(engine=kind, **options)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(shop.Article), ROWS)
        session.commit()
    backfill(engine, shop.index)
    return shop


def scores(session: Session, shop: Any, query: str, *, candidates: int = 100, where: Any = None) -> dict[int, float]:
    """The leg's keys and scores, in its order."""
    engine = engine_of(shop.index)
    read = engine.read(session, shop.index, query)
    leg = engine.leg(shop.index, query, candidates=candidates, where=where, read=read)
    return {row[0]: -row.distance for row in session.execute(leg)}


def terms(session: Session, content: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    if content is not None:
        for row in session.execute(select(terms_of(cast(literal("english"), REGCONFIG), literal(content, Text)))):
            counted[row.term] += row.frequency
    return counted


def words_of(session: Session, shop: Any) -> dict[Hashable, Mapping[str, float]]:
    """The weighted term counts of every article, as the rows are now."""
    counted: dict[Hashable, Mapping[str, float]] = {}
    for article in session.scalars(select(shop.Article).execution_options(populate_existing=True)):
        total: dict[str, float] = {}
        for name, weight in shop.index.fields.items():
            for term, times in terms(session, getattr(article, name)).items():
                total[term] = total.get(term, 0.0) + weight * times
        counted[article.id] = total
    return counted
