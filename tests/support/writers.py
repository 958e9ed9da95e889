"""Threads that write articles, in transactions of which some are rolled back."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, insert, text

from tests.faults.shop import shop

STATEMENTS = (
    "insert into article values (:id, :title, :body) on conflict (id) do update set title = :title",
    "insert into article values (:id, :title, :body) on conflict (id) do nothing",
    "update article set title = :title where id = :id",
    "delete from article where id = :id",
    "with gone as (delete from article where id = :id returning *), back as (select * from gone) "
    "insert into article select id + 2000, title, body from back on conflict do nothing",
    "update article set body = :body where id between :id and :id + 9",
    "update article set id = :id + 1000 where id = :id and not exists (select from article where id = :id + 1000)",
)


def add(engine: Engine, first: int, last: int) -> None:
    """Write articles with the numbers from `first` to `last`."""
    rows = [{"id": n, "title": f"chair {n}", "body": f"red {n % 7}"} for n in range(first, last + 1)]
    with engine.begin() as connection:
        connection.execute(insert(shop.Article), rows)


@contextmanager
def writing(engine: Engine, number: int, *, keys: int = 300, pause: float = 0.05) -> Iterator[Counter[str]]:
    """Write in so many threads while the block runs; yields how many transactions were committed and rolled back."""
    stop, done = threading.Event(), Counter[str]()
    failures: list[BaseException] = []
    pool = create_engine(engine.url, pool_size=number)

    def run(seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            try:
                with pool.connect() as connection:
                    # One after the other in the order of their keys: writers who wait for each other would deadlock.
                    for key in sorted(chance.randrange(keys) for _ in range(chance.choice((1, 1, 2, 5)))):
                        words = {"title": f"chair {chance.randrange(50)}", "body": f"red {chance.randrange(9)}"}
                        connection.execute(text(chance.choice(STATEMENTS)), {"id": key, **words})
                    if chance.random() < 0.2:
                        connection.rollback()
                        done["rolled back"] += 1
                    else:
                        connection.commit()
                        done["committed"] += 1
            except BaseException as error:
                if "deadlock detected" in str(error) or "duplicate key" in str(error):
                    done["refused"] += 1
                    continue
                failures.append(error)
                return
            time.sleep(chance.uniform(0, pause))

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
