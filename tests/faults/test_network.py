"""Cuts of the network between worker and server, by a proxy that delays, stalls, resets and refuses."""

import os
import random
import time

import pytest
from sqlalchemy import Engine

from hybridsearch.queue import Limits
from tests.faults.shop import shop
from tests.support.proxy import proxied
from tests.support.workers import assert_intact, is_drained, nursery, until
from tests.support.writers import add, writing

CUTS = int(os.environ.get("HYBRIDSEARCH_TEST_CUTS", "16"))
QUICK = "-c idle_in_transaction_session_timeout=2s"


@pytest.fixture
def tables(engine: Engine) -> Engine:
    shop.Base.metadata.create_all(engine)
    return engine


def test_a_worker_behind_a_bad_network_loses_nothing(tables: Engine) -> None:
    chance = random.Random(4)
    with proxied(tables.url) as (proxy, address), nursery(address, HYBRIDSEARCH_TEST_DELAY="0.005") as workers:
        for _ in range(2):
            workers.start()
        with writing(tables, 2):
            for number in range(CUTS):
                time.sleep(chance.uniform(0.1, 0.5))
                (proxy.reset, proxy.stall, proxy.refuse, lambda: proxy.slow(0.02))[number % 4]()
                time.sleep(chance.uniform(0.1, 0.5))
                proxy.resume()
        assert sum(proxy.faults.values()) >= CUTS
        until(lambda: is_drained(tables, shop))
        print(f"{dict(proxy.faults)} faults of the network, 0 differences")
    assert_intact(tables, shop)


def test_a_worker_gives_up_a_connection_that_does_not_answer(tables: Engine) -> None:
    limits = Limits(deadline=20, lease=60, patience=2)
    with proxied(tables.url) as (proxy, address):
        quick = address.set(query={"options": QUICK})
        with nursery(quick, limits, HYBRIDSEARCH_TEST_DELAY="0.02") as workers:
            workers.start()
            add(tables, 1, 40)
            time.sleep(1)
            proxy.stall(new=False)
            add(tables, 41, 60)
            until(lambda: is_drained(tables, shop))
            assert any("has not answered" in line for line in workers.said)
    assert_intact(tables, shop)


def test_a_worker_whose_network_stalls_for_good_is_not_waited_for(tables: Engine) -> None:
    limits = Limits(deadline=20, lease=4)
    with (
        proxied(tables.url) as (proxy, address),
        nursery(address.set(query={"options": QUICK}), limits, HYBRIDSEARCH_TEST_DELAY="0.02") as cut,
        nursery(tables.url, limits) as whole,
    ):
        cut.start()
        with writing(tables, 2):
            time.sleep(1.5)
            proxy.stall()
            whole.start()
            time.sleep(1)
        until(lambda: is_drained(tables, shop))
        add(tables, 5000, 5020)
        until(lambda: is_drained(tables, shop))
        proxy.reset()
        proxy.resume()
        time.sleep(0.5)
    assert_intact(tables, shop)
