"""What an index wants when nothing else is to be done: bounded steps, each in a transaction of its own.

for _ in idle(begin, articles):
    if stop.is_set():
        break
"""

from collections.abc import Callable, Iterator

from hybridsearch import weights
from hybridsearch.engines import engine_of
from hybridsearch.model import SearchIndex
from hybridsearch.postings import WORN
from hybridsearch.stages import Begin
from hybridsearch.state import lock


def idle(begin: Begin, index: SearchIndex) -> Iterator[None]:
    """Do what there is to do; yield after each step. One worker at a time: where another is at it, nothing is done."""
    for work in WORKS:
        yield from work(begin, index)


def _clean(begin: Begin, index: SearchIndex) -> Iterator[None]:
    """Drop what is left of removed documents, where that is much."""
    with begin() as session:
        steps = engine_of(index).worn(session, index)
    for step in steps:
        with begin() as session:
            if not lock(session, index, "upkeep", wait=False):
                return
            step(session)
        yield


def _weigh_anew(begin: Begin, index: SearchIndex) -> Iterator[None]:
    """The same for the encoder's term weights of chunks that are gone."""
    with begin() as session:
        spans = weights.spans(session, index) if weights.dead_share(session, index) >= WORN else ()
    for span in spans:
        with begin() as session:
            if not lock(session, index, "upkeep", wait=False):
                return
            weights.weigh_span_anew(session, index, span)
        yield


WORKS: tuple[Callable[[Begin, SearchIndex], Iterator[None]], ...] = (_clean, _weigh_anew)
