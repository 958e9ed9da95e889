"""Keep indexes in line with their tables, for as long as the process runs.

    hybridsearch worker --app shop.models            # any number of them, on any number of machines

    with running(engine, [articles]):                # a background thread, in a FastAPI lifespan
        yield

One loop indexes words as soon as they are committed, another encodes; a third listens, and wakes them. Without a
notification they look by themselves every few seconds. A fourth does what can wait: it vacuums after merges, and now
and then it cleans, and builds an HNSW index that is missing. What a worker has begun when it dies, another does.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from hybridsearch.database import explained
from hybridsearch.deadline import stuck
from hybridsearch.errors import (
    ConfigurationError,
    DatabaseError,
    EncoderError,
    EncoderMismatch,
    ExtensionMissing,
    SchemaMissing,
)
from hybridsearch.graph import abandoned, build
from hybridsearch.idle import idle
from hybridsearch.indexing import prepare
from hybridsearch.model import SearchIndex
from hybridsearch.partitions import notice
from hybridsearch.presence import present
from hybridsearch.queue import Limits, backoff, release
from hybridsearch.requests import answering
from hybridsearch.stages import step_upkeep, step_vectors, step_words
from hybridsearch.state import CHANNEL, qualified_name
from hybridsearch.vacuum import Sweeper
from hybridsearch.watch import Watch

logger = logging.getLogger(__name__)

POLL = 5.0  # seconds between looks where nothing is notified
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0  # seconds before the next attempt, where the server or the encoder is away
UPKEEP = 12  # polls between looks at what can wait
GRACE = 5.0  # seconds: of the 10 that Docker gives a process to end
SWEEP = 1.0  # seconds between looks at what merges have left: the server counts it so often
REBUILD = 3600.0  # seconds between attempts to build an HNSW index
STUCK = 4  # calls of an encoder that never returned: only a new process gets rid of them

FATAL = (EncoderMismatch, SchemaMissing, ExtensionMissing)  # what waiting does not mend
PASSING = (EncoderError, DatabaseError, SQLAlchemyError, psycopg.Error, OSError)


class Worker:
    """Works on some indexes until it is stopped, through an engine with psycopg: about six of its connections."""

    def __init__(
        self, engine: Engine, indexes: Sequence[SearchIndex], *, limits: Limits | None = None, poll: float = POLL
    ) -> None:
        if engine.driver != "psycopg":
            raise ConfigurationError(f"a worker listens through psycopg: the engine uses {engine.driver}")
        self.engine = engine
        self.indexes = list(indexes)
        self.limits = limits or Limits()
        self.poll = poll
        self._watch = Watch(self.limits.patience)
        self._stop = threading.Event()
        self._wakes: dict[str, threading.Event] = {name: threading.Event() for name in ("words", "vectors")}
        self._failure: BaseException | None = None
        self._number: int | None = None
        self._merged = threading.Event()
        self._sweeper = Sweeper(engine, self._may_take_long)
        self._long: psycopg.Connection[Any] | None = None
        self._built: dict[str, float] = {}

    def run(self) -> None:
        """Work until `stop` is called. Raises EncoderMismatch, SchemaMissing, ExtensionMissing, and EncoderError

        where the encoder does not return any more; whatever passes is waited for and logged.
        """
        loops = [self._listen, self._words, self._vectors, self._upkeep]
        threads = [threading.Thread(target=self._keep, args=(loop,), daemon=True) for loop in loops]
        with answering(self.engine, self.indexes):
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # in steps, between which Python sees to signals
                    self._watch.check()
                    self._cancel()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let `run` return when the batches at hand are finished; a signal handler may call it."""
        self._stop.set()
        self._wake()
        self._merged.set()

    def once(self) -> None:
        """Do what there is to do now, without listening. Raises as `run`, and what that waits for."""
        with explained(), present(self.engine) as presence:
            for index in self.indexes:
                self._prepare(index)
                self._notice(index)
                while self._word_step(index) or self._vector_step(index, presence.worker):
                    pass
                while step_upkeep(self._begin, index):
                    pass
                self._sweeper.sweep(index)
                self._idle(index)

    @contextmanager
    def _begin(self) -> Iterator[Session]:
        """A transaction that is given up where the server does not answer."""
        with Session(self.engine) as session, self._watch.over(session.connection()):
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    def _keep(self, loop: Callable[[], None]) -> None:
        """Run a loop again and again until the worker is stopped, with pauses after failures."""
        failures, began = 0, time.monotonic()
        try:
            while not self._stop.is_set():
                try:
                    with explained():
                        loop()
                except FATAL:
                    raise
                except PASSING as error:
                    if stuck() >= STUCK:
                        raise
                    failures = 1 if time.monotonic() - began > 2 * LONGEST_PAUSE else failures + 1
                    pause = backoff(failures, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
                    logger.warning("%s; again in %.1f s", str(error).partition("\n")[0], pause)
                    self._stop.wait(pause)
                    began = time.monotonic()
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self.stop()

    def _listen(self) -> None:
        with self.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            connection.detach()
            connection.execute(text(f"listen {CHANNEL}"))
            self._wake()  # for what was notified before
            looked = time.monotonic()
            while not self._stop.is_set():
                for _ in driver.notifies(timeout=0.5, stop_after=1):
                    self._wake()
                if time.monotonic() - looked > self.poll:
                    with self._watch.over(connection):
                        driver.execute("")  # the loss of a connection need not end the wait
                    looked = time.monotonic()

    def _words(self) -> None:
        for index in self.indexes:
            self._prepare(index)
        looked = 0.0
        while not self._stop.is_set():
            self._wakes["words"].clear()
            worked = [self._word_step(index) for index in self.indexes]
            if time.monotonic() - looked > self.poll:
                looked = time.monotonic()
                worked += [self._notice(index) for index in self.indexes]
            if not any(worked):
                self._wakes["words"].wait(self.poll)

    def _vectors(self) -> None:
        with present(self.engine) as presence:
            # What this loop had claimed under its last number, when it lost its connection, is nobody's now.
            self._release(former=self._number)
            self._number = presence.worker
            released = time.monotonic()
            while not self._stop.is_set():
                self._wakes["vectors"].clear()
                with self._watch.over(presence.connection):
                    presence.confirm()
                if time.monotonic() - released > self.poll:
                    released = time.monotonic()
                    self._release()
                worked = [self._vector_step(index, presence.worker) for index in self.indexes]
                if not any(worked):
                    self._wakes["vectors"].wait(min(self.poll, 1.0))

    def _upkeep(self) -> None:
        due = time.monotonic() + self.poll
        while not self._stop.is_set():
            self._merged.wait(max(0.0, due - time.monotonic()))
            self._merged.clear()
            for index in self.indexes:
                self._sweeper.sweep(index)
            if time.monotonic() >= due:
                for index in self.indexes:
                    self._idle(index)
                due = time.monotonic() + UPKEEP * self.poll
            self._stop.wait(SWEEP)

    def _idle(self, index: SearchIndex) -> None:
        with explained(index):
            for _ in idle(self._begin, index):
                self._sweeper.sweep(index)
                if self._stop.is_set():
                    return
            self._build(index)

    def _build(self, index: SearchIndex) -> None:
        """Build the HNSW index, if there is none and nobody else is going to; one that failed waits for an hour."""
        if time.monotonic() - self._built.get(qualified_name(index), -REBUILD) < REBUILD:
            return
        with self._begin() as session:
            graph = abandoned(session, index)
        if graph is not None and not self._stop.is_set():
            logger.info("%s: the HNSW index of %d vectors is missing", index.name, graph.vectors)
            self._built[qualified_name(index)] = time.monotonic()
            build(self.engine, index, during=self._may_take_long)

    @contextmanager
    def _may_take_long(self, connection: Connection) -> Iterator[None]:
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, psycopg.Connection)
        self._long = driver
        try:
            yield
        finally:
            self._long = None

    def _cancel(self) -> None:
        """Cancel what may take an hour, once the worker is to end; another worker begins it anew."""
        if self._stop.is_set() and (long := self._long) is not None:
            with suppress(psycopg.Error):
                long.cancel_safe(timeout=5)

    def _prepare(self, index: SearchIndex) -> None:
        with explained(index), self._begin() as session:
            prepare(session, index)

    def _word_step(self, index: SearchIndex) -> bool:
        with explained(index):
            done = step_words(self._begin, index) is not None
            if merged := step_upkeep(self._begin, index):
                self._merged.set()
            return merged or done

    def _vector_step(self, index: SearchIndex, worker: int) -> bool:
        with explained(index):
            return step_vectors(self._begin, index, worker=worker, limits=self.limits) is not None

    def _notice(self, index: SearchIndex) -> bool:
        with explained(index), self._begin() as session:
            return notice(session, index)

    def _release(self, former: int | None = None) -> None:
        for index in self.indexes:
            with explained(index), self._begin() as session:
                release(session, index, former=former)

    def _wake(self) -> None:
        for wake in self._wakes.values():
            wake.set()


@contextmanager
def running(
    engine: Engine,
    indexes: Sequence[SearchIndex],
    *,
    limits: Limits | None = None,
    poll: float = POLL,
    grace: float = GRACE,
) -> Iterator[Worker]:
    """Run a worker in a background thread for as long as the block runs; it has `grace` seconds to finish its batch.

    The end of the block waits for that, in an async lifespan the event loop with it. A batch that takes longer is
    written if the process is there until then, or left to another worker. What ends the worker before is logged as an
    error; the block goes on.
    """
    worker = Worker(engine, indexes, limits=limits, poll=poll)

    def work() -> None:
        try:
            worker.run()
        except Exception:
            logger.exception("the worker has ended")

    thread = threading.Thread(target=work, name="hybridsearch-worker", daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(grace)
        if thread.is_alive():
            logger.warning("a batch took longer than %g s: the worker is left behind, and ends with the process", grace)
