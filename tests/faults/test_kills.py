"""kill -9 of workers: at every stage of a batch, and fifty times at random while others write."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, Engine, func, select, text
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


# What the test holds, so that a worker stops there: in the midst of the words, at their end, in the claim of a batch;
# in the midst of the vectors, at their end, and before the next batch.
STAGES = {
    "words": "lock table article_term in exclusive mode",
    "after words": "lock table article_queue in share mode",
    "claim": "select pg_advisory_xact_lock(1)",
    "encode": "select",
    "vectors": "lock table article_chunk in share mode",
    "before commit": "select from article_queue for update",
    "after commit": "select from article_queue where claimed_by is null for update",
}
BEFORE_ENCODING = ("words", "after words", "claim")
CLAIMS_WAIT = """
    create function wait() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$;
    create trigger wait before update on article_queue
    for each row when (new.claimed_by is not null) execute function wait();
"""


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_at_a_stage_has_left_its_work_to_another(tables: Engine, tmp_path: Path, stage: str) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    with tables.begin() as connection:
        connection.execute(text(CLAIMS_WAIT))
    with nursery(tables.url, HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers, tables.connect() as connection:
        first = workers.start()
        until(lambda: is_working(tables))
        if stage in BEFORE_ENCODING:
            hold.unlink()
            connection.execute(text(STAGES[stage]))
        add(tables, 1, 20)
        if stage not in BEFORE_ENCODING:
            until(Path(f"{hold}.held").exists)
            connection.execute(text(STAGES[stage]))
        if stage != "encode":
            hold.unlink(missing_ok=True)
            until(lambda: encoded(tables) == 8 if stage == "after commit" else waiting(tables) > 0)
        assert claimed(tables) == (8 if stage in ("encode", "vectors", "before commit") else 0)
        workers.kill(first)
        hold.unlink(missing_ok=True)
        connection.rollback()
        workers.start()
        until(lambda: count(tables) == 20 and is_drained(tables, shop))
    assert_intact(tables, shop)


def test_a_worker_told_to_end_writes_its_batch_which_is_not_encoded_again(tables: Engine, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    written = text("select article_id, id, xmin::text from article_chunk order by article_id")
    with nursery(tables.url, HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers:
        first = workers.start()
        add(tables, 1, 20)
        until(Path(f"{hold}.held").exists)
        workers.kill(first, signal.SIGTERM)
        time.sleep(0.3)
        assert (encoded(tables), claimed(tables)) == (0, 8)
        hold.unlink()
        until(lambda: not workers.is_alive(first))
        assert (encoded(tables), claimed(tables)) == (8, 0)
        with tables.connect() as connection:
            batch = connection.execute(written).all()
        workers.start()
        until(lambda: is_drained(tables, shop))
        with tables.connect() as connection:
            assert set(batch) < set(connection.execute(written).all())
    assert_intact(tables, shop)


def is_working(engine: Engine) -> bool:
    with engine.connect() as connection:
        found = connection.scalar(text("select count(*) from pg_locks where locktype = 'advisory' and objsubid = 2"))
        return (found or 0) > 1


def count(engine: Engine) -> int:
    return how_many(engine, shop.index.documents.c.id)


def encoded(engine: Engine) -> int:
    return how_many(engine, shop.index.documents.c.encoded_at)


def claimed(engine: Engine) -> int:
    return how_many(engine, shop.index.queue.c.claimed_by)


def how_many(engine: Engine, column: ColumnElement[Any]) -> int:
    """How many values there are that are not null."""
    with Session(engine) as session:
        return session.scalar(select(func.count(column))) or 0


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
        until(lambda: is_drained(tables, shop))
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
