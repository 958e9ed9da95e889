"""Many writers and several workers at once; a transaction that commits long after others."""

import os
import time

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from hybridsearch.lexical import lexical
from tests.faults.shop import shop
from tests.support.workers import assert_intact, is_drained, nursery, until
from tests.support.writers import add, writing

SECONDS = float(os.environ.get("HYBRIDSEARCH_TEST_SECONDS", "12"))


@pytest.fixture
def tables(engine: Engine) -> Engine:
    shop.Base.metadata.create_all(engine)
    return engine


def test_eight_writers_and_three_workers_end_with_the_same_index(tables: Engine) -> None:
    with nursery(tables.url) as workers:
        for _ in range(3):
            workers.start()
        with writing(tables, 8) as done:
            time.sleep(SECONDS)
        until(lambda: is_drained(tables, shop))
    assert min(done["committed"], done["rolled back"]) > 30, done
    print(f"{dict(done)} transactions by 8 writers beside 3 workers in {SECONDS:g} s")
    assert_intact(tables, shop)


def test_a_transaction_that_commits_late_is_not_overtaken(tables: Engine) -> None:
    late = create_engine(tables.url)
    with nursery(tables.url) as workers, late.connect() as connection:
        workers.start()
        add(tables, 1, 20)
        connection.execute(text("insert into article values (1000, 'late sofa', null)"))
        connection.execute(text("update article set title = 'late chair' where id = 5"))
        connection.execute(text("delete from article where id = 6"))
        for first in range(21, 200, 20):
            add(tables, first, first + 19)
            until(lambda: is_drained(tables, shop))
        with Session(tables) as session:  # what is not committed is not seen
            assert session.execute(lexical(shop.index, "late", candidates=10)).all() == []
        connection.commit()
        until(lambda: is_drained(tables, shop))
    late.dispose()
    with Session(tables) as session:
        found = {row[0] for row in session.execute(lexical(shop.index, "late", candidates=10))}
    assert found == {5, 1000}
    assert_intact(tables, shop)


def test_a_long_transaction_that_deletes_holds_up_no_other_document(tables: Engine) -> None:
    late = create_engine(tables.url)
    with nursery(tables.url) as workers, late.connect() as connection:
        workers.start()
        add(tables, 1, 20)
        until(lambda: is_drained(tables, shop))
        connection.execute(text("delete from article where id = 7"))
        with tables.begin() as other:
            other.execute(text("update article set title = title || ' new' where id <> 7"))
        until(lambda: is_drained(tables, shop))
        connection.rollback()
    late.dispose()
    assert_intact(tables, shop)
