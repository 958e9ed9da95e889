"""Encoders that fail in a worker's process: that end it, that never return."""

import time

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from hybridsearch.freshness import failures
from hybridsearch.lexical import lexical
from hybridsearch.queue import Limits, forget, retry
from tests.faults.shop import FAULTS, shop
from tests.support.workers import Nursery, assert_intact, is_drained, nursery, until
from tests.support.writers import add

LIMITS = Limits(deadline=0.5, lease=30, attempts=2)


@pytest.fixture
def tables(engine: Engine) -> Engine:
    shop.Base.metadata.create_all(engine)
    return engine


def set_aside(engine: Engine) -> set[int]:
    with Session(engine) as session:
        return {one.key[0] for one in failures(session, shop.index) if one.failed_at is not None}


def keep_alive(workers: Nursery, engine: Engine, wanted: set[int]) -> int:
    """Start a worker again whenever it has ended, until the wanted documents are set aside; return how often."""
    ends, worker = 0, workers.start()
    deadline = time.monotonic() + 90
    while set_aside(engine) != wanted or encoded(engine) != 30 - len(wanted):
        assert time.monotonic() < deadline, (set_aside(engine), encoded(engine))
        if not workers.is_alive(worker):
            workers.workers.remove(worker)
            worker, ends = workers.start(), ends + 1
        time.sleep(0.05)
    return ends


def encoded(engine: Engine) -> int:
    with Session(engine) as session:
        return session.query(shop.index.documents).filter(shop.index.documents.c.encoded_at.is_not(None)).count()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_document_that_breaks_the_encoder_is_set_aside_and_found_by_its_words(tables: Engine, fault: str) -> None:
    add(tables, 1, 29)
    with tables.begin() as connection:
        connection.execute(insert(shop.Article).values(id=30, title=f"fault {fault}", body="sofa"))
    with nursery(tables.url, LIMITS) as workers:
        ends = keep_alive(workers, tables, {30})
    assert (ends > 0) == (fault == "kills")
    with Session(tables) as session:
        found = session.execute(lexical(shop.index, "sofa", candidates=10)).all()
        assert [row[0] for row in found] == [30]
        (failure,) = failures(session, shop.index)
        assert failure.attempts == 2
        assert failure.error.startswith("the worker ended 2 times" if fault == "kills" else 'encoder "word-hash"')
        assert retry(session, shop.index) == 1
        session.rollback()
        assert forget(session, shop.index) == 1
        session.delete(session.get_one(shop.Article, 30))
        session.commit()
    with nursery(tables.url, LIMITS) as workers:
        workers.start()
        until(lambda: encoded(tables) == 29)
        until(lambda: not set_aside(tables))
        until(lambda: is_drained(tables, shop))
    assert_intact(tables, shop)
