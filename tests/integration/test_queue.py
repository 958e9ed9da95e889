"""The queue of documents without vectors, step by step: whose fault a failure is, who waits for whom."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from hybridsearch.freshness import freshness
from hybridsearch.indexing import clear, prepare
from hybridsearch.queue import Limits, claim, release
from hybridsearch.stages import step_vectors, step_words
from hybridsearch.state import hold_encoder
from hybridsearch.vectors import encode, read, write
from tests.support.afresh import differences
from tests.support.encoders import BrokenEncoder
from tests.support.models import articles, fill
from tests.support.workers import until

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


def vectors(engine: Engine, shop: SimpleNamespace) -> None:
    while step(engine, shop):
        pass


def soon(engine: Engine) -> None:
    """Let what waits be due."""
    with engine.begin() as connection:
        connection.execute(text("update article_queue set next_at = clock_timestamp() where failed_at is null"))


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


def waiting(engine: Engine) -> int:
    waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with engine.connect() as connection:
        return connection.scalar(text(waits)) or 0


@contextmanager
def beside(engine: Engine, work: Callable[[], object]) -> Iterator[None]:
    """Do the work in a thread, which waits for a lock when the block begins; raise what it raises."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: waiting(engine) > 0 or not thread.is_alive(), 10)
        yield
    finally:
        thread.join(20)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


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


# A rebuild beside a worker


def test_a_rebuild_waits_for_a_worker_that_writes(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    claims = claim(session, shop.index, worker=WORKER, limits=LIMITS)
    encoded = encode(shop.index, read(session, shop.index, [one.key for one in claims]).works)
    session.commit()
    hold_encoder(session, shop.index)
    with beside(engine, lambda: rebuild(engine, shop)):
        assert write(session, shop.index, encoded, worker=WORKER) == 4
        session.commit()
    words(engine, shop)
    assert freshness(session, shop.index).queued == 0


def rebuild(engine: Engine, shop: SimpleNamespace) -> None:
    with Session(engine) as session, session.begin():
        clear(session, shop.index)
        prepare(session, shop.index)


def test_a_worker_that_waited_for_a_rebuild_by_the_same_encoder_goes_on(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    claims = claim(session, shop.index, worker=WORKER, limits=LIMITS)
    encoded = encode(shop.index, read(session, shop.index, [one.key for one in claims]).works)
    session.commit()
    written = []

    def write_beside() -> None:
        with Session(engine) as other, other.begin():
            written.append(write(other, shop.index, encoded, worker=WORKER))

    clear(session, shop.index)
    prepare(session, shop.index)
    with beside(engine, write_beside):
        session.commit()
    assert written == [0]
