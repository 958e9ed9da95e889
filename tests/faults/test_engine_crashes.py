"""kill -9 of PostgreSQL while the lexical index is merged, cleaned, built or rebuilt: the step was never begun."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch.backfill import backfill, upkeep
from hybridsearch.postings import build, clean, compact, rebuild
from tests.faults.application import application
from tests.faults.shop import shop
from tests.support.crash import Mortal, mortal_server
from tests.support.shelf import check
from tests.support.workers import assert_intact, until
from tests.support.writers import add

# A step, and the table whose lock stops it in its midst.
STEPS: dict[str, tuple[Callable[[Session], Any], str]] = {
    "merge": (lambda session: compact(session, shop.index), "lock table article_posting in share mode"),
    "cleaning": (lambda session: sum(clean(session, shop.index)), "lock table article_posting in share mode"),
    "build": (lambda session: build(session, shop.index), "lock table article_document in share mode"),
    "rebuild": (lambda session: next(rebuild(session, shop.index)), "lock table article_statistics in share mode"),
}


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortal]:
    with mortal_server() as server:
        yield server


@pytest.fixture
def crashing(mortal: Mortal) -> Iterator[Engine]:
    """An engine on a new database of the mortal server, with an index that has something of everything to do."""
    with application(mortal.address) as engine:
        add(engine, 1, 300)
        backfill(engine, shop.index)
        with engine.begin() as connection:
            connection.execute(text("delete from article where id % 3 = 0"))
        backfill(engine, shop.index)
        with Session(engine) as session:
            assert compact(session, shop.index, documents=70) == 70  # of 100 removals
            session.commit()
        add(engine, 301, 400)
        yield engine


@contextmanager
def unfinished(engine: Engine, work: Callable[[Session], Any]) -> Iterator[threading.Event]:
    """Do a step in a thread, and do not commit; yields what is set when it is done. The server dies meanwhile."""
    done, dead = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with Session(engine) as session:
                assert work(session) > 0
                done.set()
                dead.wait()
                session.commit()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        dead.set()
        thread.join(60)
    assert len(failures) == 1
    assert isinstance(failures[0], DBAPIError), failures


def stopped(connection: Connection) -> bool:
    found = connection.scalar(text("select count(*) from pg_stat_activity where wait_event_type = 'Lock'"))
    return bool(found)


@pytest.mark.parametrize(("step", "midway"), [*((step, True) for step in STEPS), ("merge", False), ("rebuild", False)])
def test_a_step_whose_server_was_killed_has_changed_nothing(
    mortal: Mortal, crashing: Engine, step: str, midway: bool
) -> None:
    work, lock = STEPS[step]
    before = held(crashing)
    crashing.dispose()
    others = create_engine(crashing.url)
    watching = others.execution_options(isolation_level="AUTOCOMMIT")  # each look is a new one
    with others.connect() as blocker, watching.connect() as watcher:
        if midway:
            blocker.execute(text(lock))
        with unfinished(crashing, work) as done:
            until(lambda: stopped(watcher) if midway else done.is_set())
            assert done.is_set() != midway
            watcher.execute(text("checkpoint"))  # what was written so far is on the disk
            mortal.kill()
        blocker.invalidate()
        watcher.invalidate()
    others.dispose()
    mortal.restart()
    crashing.dispose()
    assert held(crashing) == before
    with Session(crashing) as session:
        assert work(session) > 0
        session.commit()
        check(session, shop, ["red", "chair"], 400)
    backfill(crashing, shop.index)
    upkeep(crashing, shop.index)
    with Session(crashing) as session:
        check(session, shop, ["red", "3"], 400)
    assert_intact(crashing, shop)


def held(engine: Engine) -> dict[str, int]:
    """How many rows each table of the index has, and which tables there are beside."""
    with Session(engine) as session:
        counts = {table.name: session.scalar(select(func.count()).select_from(table)) for table in shop.index.tables}
        there = session.scalar(text("select count(*) from pg_class where relnamespace = 'public'::regnamespace"))
        return counts | {"relations": there}
