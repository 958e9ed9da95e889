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
from hybridsearch.graph import Estimate, build, loading, postpone, unbuilt
from hybridsearch.indexing import PAGE, analyze, clear, compare, prepare
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.partitions import notice
from hybridsearch.postings import BATCH
from hybridsearch.presence import present
from hybridsearch.queue import Limits, outstanding, release
from hybridsearch.stages import Begin, step_fill, step_upkeep, step_vectors, step_words
from hybridsearch.vacuum import Sweeper
from hybridsearch.vectors import probe

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
    on_graph: Callable[[Estimate], object] = lambda estimate: None,
) -> Page:
    """Bring the index in line with its table, beside writers and workers; return the totals.

    `rebuild` empties it first; `throttle` is the most rows a second; `beside` is entered when the index is ready to be
    filled, for workers that take part. The graph over a large first load is built at its end, `on_graph` is told before
    what that takes. Documents that cannot be encoded stay in the queue, with their errors. Raises
    EncoderError where the encoder fails at everything; what has been committed until then stays. Raises
    ConfigurationError for a throttle that is no number above 0.
    """
    if throttle is not None and not throttle > 0:
        raise ConfigurationError(f"throttle is {throttle}: give rows a second, more than 0")
    total = Page()
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
            postpone(session, index)
        if throttle is not None:
            page_size = max(1, int(min(page_size, throttle)))
        with beside():
            for page in _pages(engine, begin, index, presence.worker, page_size, limits or Limits()):
                total += page
                on_page(page)
                if throttle is not None:
                    time.sleep(page.read / throttle)
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


def _pages(
    engine: Engine, begin: Begin, index: SearchIndex, worker: int, page_size: int, limits: Limits
) -> Iterator[Page]:
    unmerged = 0
    while step_fill(begin, index):
        yield Page()
    yield _drained(begin, index, worker, limits)
    with Session(engine) as session:
        for page in compare(session, index, page_size=page_size):
            session.commit()
            done = page + _drained(begin, index, worker, limits)
            unmerged += done.written
            while unmerged >= BATCH and step_upkeep(begin, index):
                pass
            unmerged %= BATCH
            yield done
    yield _finished(begin, index, worker, limits)
    while step_upkeep(begin, index):
        pass


def _drained(begin: Begin, index: SearchIndex, worker: int, limits: Limits) -> Page:
    """Do what can be done now."""
    total = Page()
    while (page := step_words(begin, index, wait=True)) is not None:
        total += replace(page, read=0)
    while (page := step_vectors(begin, index, worker=worker, limits=limits)) is not None:
        total += page
    return total


def _finished(begin: Begin, index: SearchIndex, worker: int, limits: Limits) -> Page:
    """Wait for what other workers have taken; do it where they are gone."""
    total = Page()
    while True:
        with begin() as session:
            release(session, index)
            left = outstanding(session, index)
        if not left:
            return total
        done = _drained(begin, index, worker, limits)
        total += done
        if not done.written:
            time.sleep(PATIENCE)


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
