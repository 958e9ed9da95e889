"""What an index wants when nothing else is to be done: bounded steps, each in a transaction of its own.

for _ in idle(begin, articles):
    if stop.is_set():
        break
"""

from collections.abc import Callable, Iterator

from hybridsearch.engines import engine_of
from hybridsearch.model import SearchIndex
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


WORKS: tuple[Callable[[Begin, SearchIndex], Iterator[None]], ...] = (_clean,)
