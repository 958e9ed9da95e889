"""Connections that are at work, watched by another thread."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Engine

from hybridsearch.watch import Watch


@pytest.fixture
def _restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_restless")
def test_connections_come_and_go_while_they_are_checked(engine: Engine) -> None:
    watch, stop = Watch(300.0), time.monotonic() + 1.5

    def work() -> None:
        with engine.connect() as connection:
            while time.monotonic() < stop:
                with ExitStack() as stack:
                    for _ in range(50):
                        stack.enter_context(watch.over(connection))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    checks = 0
    try:
        while time.monotonic() < stop:
            watch.check()
            checks += 1
    finally:
        for thread in threads:
            thread.join()
    assert checks > 100
