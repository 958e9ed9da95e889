"""Workers in processes of their own, that can be killed; and what has to hold when all is over."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace

from sqlalchemy import URL, Engine, create_engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.queue import Limits, outstanding
from tests.support.afresh import differences
from tests.support.command_line import ROOT, environment

QUICK = Limits(deadline=20.0, lease=60.0)
PATIENT = replace(QUICK, attempts=1000)
"""For workers that are killed at random: no document may be set aside for it."""


class Nursery:
    """Starts workers within milliseconds."""

    def __init__(self, database: URL, limits: Limits = QUICK, **settings: str) -> None:
        address = database.render_as_string(hide_password=False)
        figures = (limits.deadline, limits.lease, limits.attempts, limits.patience)
        arguments = (address, *map(str, figures))
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.nursery", *arguments],
            env=environment() | settings,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.workers: list[int] = []
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.said.extend(line.rstrip() for line in self._process.stderr)

    def start(self) -> int:
        """Start a worker; return its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        worker = int(self._process.stdout.readline())
        self.workers.append(worker)
        return worker

    def kill(self, worker: int, with_: signal.Signals = signal.SIGKILL) -> None:
        """Kill a worker of ours."""
        assert worker in self.workers
        with suppress(ProcessLookupError):
            os.kill(worker, with_)
        if with_ == signal.SIGKILL:
            self.workers.remove(worker)

    def is_alive(self, worker: int) -> bool:
        """Return whether the process is there."""
        with suppress(ProcessLookupError):
            os.kill(worker, 0)
            return True
        return False

    def close(self) -> None:
        """Let the workers finish, and end."""
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while any(map(self.is_alive, self.workers)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for worker in self.workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        self._process.terminate()
        self._process.wait(10)
        self._reader.join(60)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def nursery(database: URL, limits: Limits = QUICK, **settings: str) -> Iterator[Nursery]:
    """A nursery, whose workers are gone at the end."""
    one = Nursery(database, limits, **settings)
    try:
        yield one
    except BaseException:
        sys.stderr.write("\n".join(one.said[-40:]) + "\n")
        raise
    finally:
        one.close()


def until(holds: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait until it holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)


def is_drained(engine: Engine, shop: SimpleNamespace) -> bool:
    """Return whether nothing is on its way."""
    with Session(engine) as session:
        return outstanding(session, shop.index) == 0


def assert_intact(engine: Engine, shop: SimpleNamespace) -> None:
    """The index is as one built afresh; nothing waits, nothing is locked, nobody else is connected."""
    engine.dispose()
    quiet = create_engine(engine.url)
    try:
        with Session(quiet) as session:
            assert outstanding(session, shop.index) == 0
            assert session.scalar(select(func.count()).select_from(shop.index.queue)) == 0
            mine = "pid <> pg_backend_pid() and datname = current_database() and backend_type = 'client backend'"
            others = text(f"select count(*) from pg_stat_activity where {mine}")
            session.rollback()
            until(lambda: _scalar(session, others) == 0)
            locks = text(
                "select count(*) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()"
                " and database = (select oid from pg_database where datname = current_database())"
            )
            assert _scalar(session, locks) == 0
        assert differences(quiet, shop.index) == 0
    finally:
        quiet.dispose()


def _scalar(session: Session, statement: object) -> int:
    found: int = session.scalar(statement)  # type: ignore[call-overload]
    session.rollback()
    return found
