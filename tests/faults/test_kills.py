"""kill -9 of workers: at every stage of a batch, and fifty times at random while others write."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.queue import Limits
from tests.faults.shop import shop
from tests.support.workers import PATIENT, assert_intact, is_drained, nursery, until
from tests.support.writers import add, writing

KILLS = int(os.environ.get("HYBRIDSEARCH_TEST_KILLS", "50"))


@pytest.fixture
def tables(engine: Engine) -> Engine:
    shop.Base.metadata.create_all(engine)
    return engine


WAITING = text("select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()")


def waiting(engine: Engine) -> int:
    """How many sessions wait for a lock."""
    with engine.connect() as connection:
        return connection.scalar(WAITING) or 0


# What the test holds, so that a worker stops there: in the midst of the words, at their end, and so with the vectors.
STAGES = {
    "words": "lock table article_term in exclusive mode",
    "after words": "lock table article_queue in share mode",
    "vectors": "lock table article_chunk in share mode",
    "before commit": "select from article_queue for update",
}


@pytest.mark.parametrize("stage", ["claim", *STAGES, "encode"])
def test_a_worker_killed_at_a_stage_has_left_its_work_to_another(tables: Engine, tmp_path: Path, stage: str) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    with nursery(tables.url, HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers:
        if stage in ("claim", "words", "after words"):
            hold.unlink()
        first = workers.start()
        until(lambda: is_working(tables))
        blocker = create_engine(tables.url)
        with blocker.connect() as connection:
            if stage == "claim":  # nothing was taken yet
                workers.kill(first)
                add(tables, 1, 20)
            elif stage in ("words", "after words"):
                connection.execute(text(STAGES[stage]))
                add(tables, 1, 20)
                until(lambda: waiting(tables) > 0)
                workers.kill(first)
            else:
                add(tables, 1, 20)
                until(Path(f"{hold}.held").exists)
                if stage == "encode":
                    workers.kill(first)
                    hold.unlink()
                else:
                    connection.execute(text(STAGES[stage]))
                    hold.unlink()
                    until(lambda: waiting(tables) > 0)
                    workers.kill(first)
            connection.rollback()
        blocker.dispose()
        workers.start()
        until(lambda: count(tables) == 20 and is_drained(tables, shop))
    assert_intact(tables, shop)


def is_working(engine: Engine) -> bool:
    with engine.connect() as connection:
        found = connection.scalar(text("select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2"))
        return (found or 0) > 1


def count(engine: Engine) -> int:
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(shop.index.documents)) or 0


def test_fifty_random_kills_lose_and_double_nothing(tables: Engine) -> None:
    chance = random.Random(50)
    killed = 0
    with nursery(tables.url, PATIENT, HYBRIDSEARCH_TEST_DELAY="0.005") as workers:
        for _ in range(2):
            workers.start()
        with writing(tables, 4) as done:
            while killed < KILLS:
                time.sleep(chance.uniform(0.05, 0.4))
                workers.kill(chance.choice(workers.workers))
                killed += 1
                workers.start()
        until(lambda: is_drained(tables, shop), 120)
    assert killed == KILLS
    assert done["committed"] > 100
    print(f"{killed} kills, {done['committed']} transactions, {done['rolled back']} rolled back, 0 differences")
    assert_intact(tables, shop)


def test_a_frozen_worker_loses_its_claim_and_spoils_nothing_when_it_wakes(tables: Engine, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    limits = Limits(deadline=20, lease=2)
    # It may freeze within a transaction, whose locks the server frees.
    address = tables.url.update_query_dict({"options": "-c idle_in_transaction_session_timeout=2s"})
    with nursery(address, limits, HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers:
        first = workers.start()
        add(tables, 1, 8)
        until(Path(f"{hold}.held").exists)
        workers.kill(first, signal.SIGSTOP)
        hold.unlink()
        workers.start()
        until(lambda: is_drained(tables, shop) and count(tables) == 8)
        with tables.begin() as connection:
            connection.execute(text("update article set title = 'sofa ' || id"))
        until(lambda: is_drained(tables, shop))
        workers.kill(first, signal.SIGCONT)
        time.sleep(1)
        until(lambda: is_drained(tables, shop))
    assert_intact(tables, shop)
