"""kill -9 of workers: at every stage of a batch, and fifty times at random while others write."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, func, insert, select, text
from sqlalchemy.orm import Session

from hybridsearch.queue import Limits
from tests.faults.shop import shop
from tests.support.workers import assert_intact, is_drained, nursery, until

KILLS = int(os.environ.get("HYBRIDSEARCH_TEST_KILLS", "50"))


@pytest.fixture
def tables(engine: Engine) -> Engine:
    shop.Base.metadata.create_all(engine)
    return engine


def add(engine: Engine, first: int, last: int) -> None:
    rows = [{"id": n, "title": f"chair {n}", "body": f"red {n % 7}"} for n in range(first, last + 1)]
    with engine.begin() as connection:
        connection.execute(insert(shop.Article), rows)


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


def write(engine: Engine, seed: int, stop: threading.Event, done: Counter[str]) -> None:
    """Write articles in transactions of one to five statements, of which every fifth is rolled back."""
    chance = random.Random(seed)
    with engine.connect() as connection:
        while not stop.is_set():
            for _ in range(chance.choice((1, 1, 2, 5))):
                key = chance.randrange(300)
                given = {"id": key, "title": f"chair {chance.randrange(50)}", "body": f"red {chance.randrange(9)}"}
                statement = chance.choice(
                    (
                        "insert into article values (:id, :title, :body) on conflict (id) do update set title = :title",
                        "insert into article values (:id, :title, :body) on conflict (id) do nothing",
                        "update article set title = :title where id = :id",
                        "delete from article where id = :id",
                        "update article set body = :body where id between :id and :id + 9",
                    )
                )
                connection.execute(text(statement), given)
            if chance.random() < 0.2:
                connection.rollback()
                done["rolled back"] += 1
            else:
                connection.commit()
                done["committed"] += 1
            time.sleep(chance.uniform(0, 0.05))


@pytest.fixture
def writers(tables: Engine) -> Iterator[Counter[str]]:
    """Four threads that write until the test is over, one transaction after the other."""
    yield from writing(tables, 4)


def writing(engine: Engine, number: int) -> Iterator[Counter[str]]:
    stop, done = threading.Event(), Counter[str]()
    failures: list[BaseException] = []
    pool = create_engine(engine.url, pool_size=number)

    def run(seed: int) -> None:
        try:
            write(pool, seed, stop, done)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        pool.dispose()
    assert failures == []


def test_fifty_random_kills_lose_and_double_nothing(tables: Engine) -> None:
    chance = random.Random(50)
    killed = 0
    with nursery(tables.url, HYBRIDSEARCH_TEST_DELAY="0.005") as workers:
        source = writing(tables, 4)
        done = next(source)
        for _ in range(2):
            workers.start()
        while killed < KILLS:
            time.sleep(chance.uniform(0.05, 0.4))
            workers.kill(chance.choice(workers.workers))
            killed += 1
            workers.start()
        for _ in source:
            pass
        until(lambda: is_drained(tables, shop), 120)
    assert killed == KILLS
    assert done["committed"] > 100
    print(f"{killed} kills, {done['committed']} transactions, {done['rolled back']} rolled back, 0 differences")
    assert_intact(tables, shop)


def test_a_frozen_worker_loses_its_claim_and_spoils_nothing_when_it_wakes(tables: Engine, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    limits = Limits(deadline=20, lease=2, attempts=1000)
    with nursery(tables.url, limits, HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers:
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
