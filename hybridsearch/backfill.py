"""Fill and keep an index, committing step by step: a stopped run goes on where it was.

backfill(engine, articles, on_page=lambda page: print(page.read))
upkeep(engine, articles)        # Upkeep(merged=120, cleaned=5400)
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain

from sqlalchemy import Engine
from sqlalchemy.orm import Session, sessionmaker

from hybridsearch import weights
from hybridsearch.database import explained
from hybridsearch.engines import engine_of
from hybridsearch.errors import ConfigurationError
from hybridsearch.freshness import Count, changed_now, queued_now
from hybridsearch.graph import Estimate, build, expected, loading, postpone, unbuilt
from hybridsearch.indexing import PAGE, analyze, clear, compare, prepare
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.partitions import notice
from hybridsearch.postings import BATCH
from hybridsearch.presence import present
from hybridsearch.queue import Limits, release
from hybridsearch.stages import Begin, step_fill, step_upkeep, step_vectors
from hybridsearch.vacuum import Sweeper
from hybridsearch.vectors import probe
from hybridsearch.words import WORDS, index_words

PATIENCE = 0.2  # seconds between looks at what other workers are doing


def backfill(
    engine: Engine,
    index: SearchIndex,
    *,
    rebuild: bool = False,
    page_size: int = PAGE,
    throttle: float | None = None,
    limits: Limits | None = None,
    beside: Callable[[], AbstractContextManager[object]] = nullcontext,
    on_page: Callable[[Page], object] = lambda page: None,
    on_postponed: Callable[[Estimate], object] = lambda estimate: None,
    on_graph: Callable[[Estimate], object] = lambda estimate: None,
) -> Page:
    """Bring the index in line with its table, beside writers and workers; return the totals.

    `rebuild` empties it first; `throttle` is the most rows a second that are read, or written; `beside` is entered when
    the index is ready to be filled, for workers that take part. `on_page` is told of each step: at first of what had
    been noted before, then of rows that are read. What changes after the last of them is read is left to the next. The
    graph over a large first load is built at its end: `on_postponed` is told before the load what that takes at least,
    `on_graph` before the build. Documents that cannot be encoded stay in the queue, with their errors. Raises
    EncoderError where the encoder fails at everything; what has been committed until then stays. Raises
    ConfigurationError for a throttle that is no number above 0.
    """
    if throttle is not None and not throttle > 0:
        raise ConfigurationError(f"throttle is {throttle}: give rows a second, more than 0")
    total, limits = Page(), limits or Limits()
    begin = sessionmaker(engine).begin
    with explained(index), present(engine) as presence:
        loading(presence.connection, index)
        if rebuild:
            probe(index)
        with begin() as session:
            if rebuild:
                clear(session, index)
            prepare(session, index)
            notice(session, index)  # what comes after this look is noticed by the next
            release(session, index)
            later = expected(session, index) if postpone(session, index) else None
        if later is not None:
            on_postponed(later)
        if throttle is not None:
            most = max(1, int(min(page_size, throttle)))
            page_size, limits = most, replace(limits, batch=min(limits.batch, most))
        run = _Run(begin, index, presence.worker, limits, WORDS if throttle is None else limits.batch)
        with beside():
            for page in _paced(_pages(engine, run, page_size, at_once=throttle is None), throttle):
                total += page
                on_page(page)
        _build_graph(engine, begin, index, on_graph)
        if total.written or total.removed:
            with begin() as session:
                analyze(session, index)
    return total


def _build_graph(engine: Engine, begin: Begin, index: SearchIndex, on_graph: Callable[[Estimate], object]) -> None:
    """Build the graph over a load, if it is missing."""
    with begin() as session:
        graph = unbuilt(session, index)
    if graph is not None:
        on_graph(graph)
        while not build(engine, index):
            time.sleep(PATIENCE)


def _pages(engine: Engine, run: "_Run", page_size: int, *, at_once: bool) -> Iterator[Page]:
    """Do what was noted before, then what a look at every row finds; new words all at once, where they are many."""
    while at_once and step_fill(run.begin, run.index):
        yield Page()
    yield from run.as_much_as(changed_now, queued_now)
    with Session(engine) as session:
        for page in compare(session, run.index, page_size=page_size):
            session.commit()
            yield page
            yield from run.steps(2 * page.read)
    yield from run.all_of(changed_now)
    yield from run.all_of(queued_now)
    while step_upkeep(run.begin, run.index):
        pass


def _paced(pages: Iterator[Page], throttle: float | None) -> Iterator[Page]:
    """Let as many rows as are read, or written, take their time: so many a second, where a figure is given."""
    total, passed, began = Page(), 0, time.monotonic()
    for page in pages:
        yield page
        total += page
        if throttle is not None and (rows := max(total.read, total.written)) > passed:
            time.sleep(max(0.0, began + (rows - passed) / throttle - time.monotonic()))
            passed, began = rows, time.monotonic()


@dataclass
class _Run:
    """The work of one run in steps, each of which takes in `words` documents at most, and encodes a batch of them.

    Writers and other workers go on meanwhile, and may bring more than a run can do: so every part of it has an end.
    """

    begin: Begin
    index: SearchIndex
    worker: int
    limits: Limits
    words: int
    unmerged: int = 0

    def steps(self, most: int) -> Iterator[Page]:
        """Do what can be done now, of so many documents; yield after each step."""
        while most > 0 and (page := self._step()) is not None:
            most -= max(1, page.read + page.written)
            while self.unmerged >= BATCH and step_upkeep(self.begin, self.index):
                pass
            self.unmerged %= BATCH
            yield replace(page, read=0)

    def as_much_as(self, *counts: Count) -> Iterator[Page]:
        """Do as much as there is now, of what can be done."""
        with self.begin() as session:
            most = sum(session.scalar(count(session, self.index)) or 0 for count in counts)
        yield from self.steps(2 * most)

    def all_of(self, count: Count) -> Iterator[Page]:
        """Do what there is now; wait for what other workers have taken, do it where they are gone."""
        with self.begin() as session:
            remaining = count(session, self.index)
        while True:
            with self.begin() as session:
                release(session, self.index)
                left = session.scalar(remaining) or 0
            if not left:
                return
            written = 0
            for page in self.steps(2 * left):
                written += page.written
                yield page
            if not written:
                time.sleep(PATIENCE)

    def _step(self) -> Page | None:
        with self.begin() as session:
            words = index_words(session, self.index, limit=self.words, wait=True)
        vectors = step_vectors(self.begin, self.index, worker=self.worker, limits=self.limits)
        if words is None and vectors is None:
            return None
        done = (words or Page()) + (vectors or Page())
        self.unmerged += done.read
        return done


@dataclass(frozen=True)
class Upkeep:
    """What upkeep did: documents and removals merged into the postings, postings of removed documents dropped."""

    merged: int
    cleaned: int


def upkeep(engine: Engine, index: SearchIndex) -> Upkeep:
    """Merge everything that is pending, drop what belongs to removed documents; searches and writers go on."""
    merged = cleaned = 0
    lexical, sweeper = engine_of(index), Sweeper(engine)
    with explained(index), Session(engine) as session:
        while step := lexical.compact(session, index):
            session.commit()
            merged += step
            sweeper.sweep(index)
        for step in chain(lexical.clean(session, index), weights.weigh_anew(session, index)):
            session.commit()
            cleaned += step
            sweeper.sweep(index)
        while weights.weigh(session, index):
            session.commit()
        analyze(session, index)
        session.commit()
    return Upkeep(merged, cleaned)
