"""The server's clock jumps, by a day ahead or back, under workers, claims, and documents that wait after an error."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, func, insert, select, text

from hybridsearch.queue import Limits
from tests.faults.application import application
from tests.faults.shop import shop
from tests.support.clock import Clock, server_with_clock
from tests.support.workers import assert_intact, is_drained, nursery, until
from tests.support.writers import add, writing

DAY = 86_400
LIMITS = Limits(deadline=20, lease=3, attempts=1000)
BAD = [5001, 5002, 5003]  # articles that no other writes


@pytest.fixture(scope="module")
def clocked() -> Iterator[tuple[URL, Clock]]:
    with server_with_clock() as server:
        yield server


@pytest.mark.parametrize("days", [1, -1])
def test_nothing_is_lost_or_waits_for_a_day_when_the_clock_jumps(
    clocked: tuple[URL, Clock], tmp_path: Path, days: int
) -> None:
    address, clock = clocked
    with application(address) as engine:
        jump(engine, clock, days, tmp_path / "hold")
        clock.set(0)
        assert_intact(engine, shop)


def jump(engine: Engine, clock: Clock, days: int, hold: Path) -> None:
    """Work until the clock jumps, and on until nothing waits."""
    hold.touch()
    with nursery(engine.url, LIMITS, HYBRIDSEARCH_TEST_DELAY="0.005", HYBRIDSEARCH_TEST_HOLD=str(hold)) as workers:
        frozen = workers.start()
        add(engine, 1, 100)
        until(Path(f"{hold}.held").exists)
        workers.kill(frozen, signal.SIGSTOP)
        hold.unlink()
        for _ in range(2):
            workers.start()
        with engine.begin() as connection:
            rows = [{"id": number, "title": f"fault raises {number}"} for number in BAD]
            connection.execute(insert(shop.Article), rows)
        until(lambda: tries(engine) >= 2)
        with writing(engine, 2):
            until(lambda: held(engine) > 0)
            before = tries(engine)
            clock.set(days * DAY)
            until(lambda: tries(engine) > before)
        until(lambda: is_drained(engine, shop))
        with engine.begin() as connection:
            connection.execute(text("update article set title = 'sofa' where id > 5000"))
        until(lambda: is_drained(engine, shop))
        workers.kill(frozen, signal.SIGCONT)
        clock.set(0)
        add(engine, 6001, 6050)
        until(lambda: is_drained(engine, shop))


def tries(engine: Engine) -> int:
    """How often each of the bad documents was tried, at least."""
    queue = shop.index.queue
    with engine.connect() as connection:
        found = connection.execute(select(func.count(), func.min(queue.c.attempts)).where(queue.c.error.is_not(None)))
        number, least = found.one()
    return least if number == len(BAD) else 0


def held(engine: Engine) -> int:
    """How many documents are claimed."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count(shop.index.queue.c.claimed_by))) or 0
