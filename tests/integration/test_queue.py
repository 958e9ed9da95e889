"""The queue of documents without vectors, step by step: whose fault a failure is, who waits for whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from hybridsearch.indexing import prepare
from hybridsearch.queue import Limits, claim, release
from hybridsearch.stages import step_vectors, step_words
from tests.support.afresh import differences
from tests.support.encoders import BrokenEncoder
from tests.support.models import articles, fill

WORKER = 7
LIMITS = Limits()


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    """Four articles that wait for their vectors."""
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    with Session(engine) as session, session.begin():
        prepare(session, shop.index)
    words(engine, shop)
    return shop


def words(engine: Engine, shop: SimpleNamespace) -> None:
    while step_words(sessionmaker(engine).begin, shop.index):
        pass


def step(engine: Engine, shop: SimpleNamespace, limits: Limits = LIMITS) -> int | None:
    """Do one batch; return how many were written, None where none is due."""
    page = step_vectors(sessionmaker(engine).begin, shop.index, worker=WORKER, limits=limits)
    return None if page is None else page.written


def attempts(engine: Engine) -> set[int]:
    with engine.connect() as connection:
        return set(connection.scalars(text("select attempts from article_queue")))


@contextmanager
def open_transaction(engine: Engine, statement: str) -> Iterator[None]:
    """A transaction of somebody's that has done this, and is rolled back at the end."""
    own = create_engine(engine.url)
    with own.connect() as connection:
        connection.execute(text(statement))
        yield
        connection.rollback()
    own.dispose()


@contextmanager
def impatient(engine: Engine) -> Iterator[Engine]:
    """An engine whose statements wait for no lock."""
    own = create_engine(engine.url, connect_args={"options": "-c lock_timeout=100ms"})
    yield own
    own.dispose()


# Attempts


def test_what_cannot_be_written_is_no_documents_fault(shop: SimpleNamespace, engine: Engine) -> None:
    with impatient(engine) as own, open_transaction(engine, "lock table article_chunk in share mode"):
        for _ in range(LIMITS.attempts + 1):
            with pytest.raises(OperationalError, match="lock timeout"):
                step(own, shop)
    assert attempts(engine) == {0}
    assert step(engine, shop) == 4
    assert differences(engine, shop.index) == 0


def test_a_worker_that_comes_back_gives_its_attempts_back_and_one_that_is_gone_does_not(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    assert len(claim(session, shop.index, worker=WORKER, limits=LIMITS)) == 4
    session.commit()
    assert release(session, shop.index, former=WORKER) == 4
    session.commit()
    assert attempts(engine) == {0}
    claim(session, shop.index, worker=WORKER, limits=LIMITS)
    session.commit()
    assert release(session, shop.index) == 4
    session.commit()
    assert attempts(engine) == {1}
