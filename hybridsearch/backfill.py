"""Fill and keep an index, committing step by step: a stopped run goes on where it was.

backfill(engine, articles, on_page=lambda page: print(page.read))
upkeep(engine, articles)        # Upkeep(merged=120, cleaned=5400)
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from hybridsearch.database import explained
from hybridsearch.engines import engine_of
from hybridsearch.indexing import PAGE, Page, analyze, clear, index_rows
from hybridsearch.model import SearchIndex


def backfill(
    engine: Engine,
    index: SearchIndex,
    *,
    rebuild: bool = False,
    page_size: int = PAGE,
    on_page: Callable[[Page], object] = lambda page: None,
) -> Page:
    """Bring the index in line with its table; return the totals.

    `rebuild` empties it first, in the first page's transaction.
    """
    total = Page()
    with explained(index), Session(engine) as session:
        if rebuild:
            clear(session, index)
        for page in index_rows(session, index, page_size=page_size):
            session.commit()
            total += page
            on_page(page)
        if total.written or total.removed:
            analyze(session, index)
            session.commit()
    return total


@dataclass(frozen=True)
class Upkeep:
    """What upkeep did: documents and removals merged into the postings, postings of removed documents dropped."""

    merged: int
    cleaned: int


def upkeep(engine: Engine, index: SearchIndex) -> Upkeep:
    """Merge everything that is pending, drop what belongs to removed documents; searches and writers go on."""
    merged = cleaned = 0
    lexical = engine_of(index)
    with explained(index), Session(engine) as session:
        while step := lexical.compact(session, index):
            session.commit()
            merged += step
        for step in lexical.clean(session, index):
            session.commit()
            cleaned += step
        analyze(session, index)
        session.commit()
    return Upkeep(merged, cleaned)
