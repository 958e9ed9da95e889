"""What the stored weights are made with: an average length, k1 and b, which stay as long as there are any weights."""

from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from hybridsearch import BM25, HybridSearch
from hybridsearch.backfill import backfill
from hybridsearch.postings import compact, rebuild
from hybridsearch.routines import define
from hybridsearch.status import status
from tests.support.command_line import run
from tests.support.models import articles, fill
from tests.support.shelf import check, drop, put
from tests.support.shop import declared


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles(config="simple")
    declared.Base.metadata.create_all(engine)
    return declared


def add(session: Session, shop: Any, keys: range, body: str) -> None:
    put(session, shop, [{"id": key, "title": "", "body": body} for key in keys])
    session.commit()


def merge(session: Session, shop: Any) -> None:
    while compact(session, shop.index):
        session.commit()


def made_with(session: Session, shop: Any) -> tuple[float, ...]:
    kept = shop.index.statistics.c
    return tuple(session.execute(select(kept.average, kept.k1, kept.b)).one())


def test_the_average_length_waits_for_documents_that_have_words(session: Session, shop: Any) -> None:
    add(session, shop, range(1, 4), "")
    merge(session, shop)
    add(session, shop, range(4, 10), "red chair " * 20)
    merge(session, shop)
    average = pytest.approx(6 * 40 / 9)
    assert made_with(session, shop)[0] == average
    add(session, shop, range(10, 20), "red")
    merge(session, shop)
    assert made_with(session, shop)[0] == average
    check(session, shop, ["red", "chair"], 100)


@pytest.mark.parametrize("most", [100, 1000])
def test_a_rebuild_in_one_step_takes_the_average_and_the_parameters_of_now(
    engine: Engine, session: Session, shop: Any, most: int
) -> None:
    add(session, shop, range(1, 101), "red chair")
    merge(session, shop)
    other = articles(config="simple", bm25=BM25(k1=0.9, b=0.4))
    session.commit()
    with engine.begin() as connection:
        define(connection, other.index.definition)
    session.execute(select(func.setval(func.pg_get_serial_sequence("article_document", "id"), 20_000)))
    add(session, shop, range(101, 201), "blue sofa " * 40)
    merge(session, shop)
    drop(session, shop, 1)  # its removal waits
    session.commit()
    steps = []
    for step in rebuild(session, other.index, most=most):
        session.commit()
        steps.append(step)
    merge(session, shop)
    if len(steps) == 1:
        assert made_with(session, shop) == (pytest.approx((99 * 2 + 100 * 80) / 199), 0.9, 0.4)
    else:  # weights of before stood beside the new ones
        assert made_with(session, shop) == (2, 1.2, 0.75)
    assert steps == ([199] if most == 1000 else [99, 100])
    check(session, shop, ["red", "sofa"], 200)


def test_the_command_rebuilds_beside_the_old_postings(engine: Engine, session: Session) -> None:
    fill(engine, declared)
    backfill(engine, declared.index)
    number = func.min(declared.index.documents.c.id)
    assert session.scalar(select(number)) == 1
    session.commit()
    done = run("compact", "--rebuild", "--app", "tests.support.shop", database=engine.url)
    assert (done.returncode, done.stdout) == (0, "article: 0 documents merged, 0 dead postings dropped\n"), done.stderr
    assert session.scalar(select(number)) == 16_000
    found = status(session, declared.index)
    assert (found.documents, found.pending, found.dead) == (4, 0, 0)
    assert [hit.document.id for hit in HybridSearch(declared.index).search(session, "garden", legs=["lexical"])] == [3]
