"""Fill an index, committing page by page: a stopped run goes on where it was.

backfill(engine, articles, on_page=lambda page: print(page.read))
"""

from collections.abc import Callable

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from hybridsearch.database import explained
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
