"""The queue of documents without vectors, step by step: whose fault a failure is, who waits for whom."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from hybridsearch.freshness import failures, freshness
from hybridsearch.indexing import clear, prepare
from hybridsearch.queue import Limits, claim, put_back, refuse, release
from hybridsearch.routines import define
from hybridsearch.stages import step_vectors, step_words
from hybridsearch.state import hold_encoder
from hybridsearch.vectors import encode, read, write
from hybridsearch.worker import Worker
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
def beside(engine: Engine, *works: Callable[[], object]) -> Iterator[None]:
    """Work in threads, each of which waits for a lock when the block begins; raise what they raise."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        until(lambda: waiting(engine) + sum(future.done() for future in futures) == len(works))
        yield
    for future in futures:
        future.result()


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


# A document whose chunks somebody's open transaction has deleted


@pytest.fixture
def changed(shop: SimpleNamespace, engine: Engine) -> SimpleNamespace:
    """The articles have vectors; the second has changed since, and somebody's transaction is about to delete it."""
    vectors(engine, shop)
    with engine.begin() as connection:
        connection.execute(text("update article set title = 'Green table' where id = 2"))
    words(engine, shop)
    shop.index.encoder.encoded.clear()
    return shop


DELETED = "delete from article where id = 2"


def test_what_is_about_to_be_deleted_is_not_encoded_meanwhile(changed: SimpleNamespace, engine: Engine) -> None:
    with open_transaction(engine, DELETED):
        for _ in range(3):
            assert step(engine, changed) == 0
            soon(engine)
    assert changed.index.encoder.encoded == []
    assert step(engine, changed) == 1
    assert differences(engine, changed.index) == 0


def test_what_is_about_to_be_deleted_is_set_aside_later_and_holds_up_no_other(
    changed: SimpleNamespace, engine: Engine, session: Session
) -> None:
    with engine.begin() as connection:
        connection.execute(text("insert into article values (9, 'Purple sofa', null)"))
    words(engine, changed)
    tried(engine, LIMITS.attempts)
    with impatient(engine) as own, open_transaction(engine, DELETED):
        assert step(own, changed) == 1
        assert step(own, changed) is None
    assert failures(session, changed.index)[0].failed_at is None
    session.rollback()
    assert_set_aside(changed, engine, "the worker ended 5 times while it encoded this document")


def test_what_fails_for_the_last_time_while_it_is_deleted_is_set_aside_later_with_its_error(
    changed: SimpleNamespace, engine: Engine, session: Session
) -> None:
    tried(engine, LIMITS.attempts - 1)
    (last,) = claim(session, changed.index, worker=WORKER, limits=LIMITS)
    session.commit()
    with impatient(engine) as own, open_transaction(engine, DELETED), Session(own) as other, other.begin():
        refuse(other, changed.index, worker=WORKER, claim=last, error="it is too green", limits=LIMITS)
    assert failures(session, changed.index)[0].failed_at is None
    session.rollback()
    assert_set_aside(changed, engine, "it is too green")


def tried(engine: Engine, times: int) -> None:
    """The second article was taken so often, in vain."""
    with engine.begin() as connection:
        connection.execute(text("update article_queue set attempts = :n where article_id = 2"), {"n": times})


def assert_set_aside(shop: SimpleNamespace, engine: Engine, error: str) -> None:
    """The next step sets the second article aside, with this error and without vectors."""
    soon(engine)
    assert step(engine, shop) is None
    with Session(engine) as session:
        (failure,) = failures(session, shop.index)
        assert (failure.key, failure.attempts, failure.error) == ((2,), LIMITS.attempts, error)
        assert failure.failed_at is not None
        assert session.scalar(text("select count(*) from article_chunk where article_id = 2")) == 0


# Who waits for whom


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_worker_that_gives_back_and_one_that_queues_anew_do_not_wait_for_each_other(
    shop: SimpleNamespace, engine: Engine, session: Session, order: str
) -> None:
    claims = claim(session, shop.index, worker=WORKER, limits=LIMITS)
    session.commit()
    session.execute(text("select from article_queue where article_id = 2 for update"))
    with engine.begin() as connection:
        for number in sorted(range(1, 5), reverse=order == "desc"):
            connection.execute(text("update article set title = title || ' new' where id = :id"), {"id": number})

    def give_back() -> None:
        with Session(engine) as other, other.begin():
            put_back(other, shop.index, worker=WORKER, keys=[one.key for one in claims])

    with beside(engine, give_back, lambda: words(engine, shop)):
        session.rollback()
    vectors(engine, shop)
    assert differences(engine, shop.index) == 0


# Documents whose words are of another content


def test_what_was_queued_under_another_declaration_is_brought_up_to_date(shop: SimpleNamespace, engine: Engine) -> None:
    deployed = articles(encoder=BrokenEncoder(), fields={"title": 2.0, "body": 1.0})
    with engine.begin() as connection:
        define(connection, deployed.index.definition)
    Worker(engine, [deployed.index]).once()
    assert deployed.index.encoder.encoded
    assert differences(engine, deployed.index) == 0


def test_what_has_changed_again_is_left_to_the_words_and_not_noted_twice(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    session.execute(text("update article set title = title || ' new'"))
    session.commit()
    assert step(engine, shop) == 0
    noted = select(func.sum(func.cardinality(shop.index.changes.c.article_id)))
    assert session.scalar(noted) == 4
    session.rollback()
    words(engine, shop)
    assert step(engine, shop) == 4
