"""The engine `sql`, the default: exact BM25 by SQL functions of our own, on a stock server. docs/sparse-engine.md."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select
from sqlalchemy.orm import Session

from hybridsearch import postings
from hybridsearch.companions import RANGE
from hybridsearch.engines.base import Statistics
from hybridsearch.lexical import lexical
from hybridsearch.model import SearchIndex


class SqlEngine:
    """Postings in ordinary tables; scores are exact in every snapshot."""

    name = "sql"

    def prepare(self, session: Session, index: SearchIndex) -> None:
        """Set up the row of statistics and the columns' storage."""
        postings.prepare(session, index)

    def fill(self, session: Session, index: SearchIndex, recipe: str) -> int:
        """Write whole ranges of postings; 0 as well where the role may make no tables."""
        return postings.build(session, index, recipe=recipe) if postings.may_build(session, index) else 0

    def compact(self, session: Session, index: SearchIndex) -> int:
        """Merge some pending documents into the postings."""
        return postings.compact(session, index)

    def clean(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Drop postings of removed documents, then words that are in none; where documents are far apart, rebuild."""
        yield from postings.clean(session, index)
        if postings.is_spread(session, index) and postings.may_build(session, index):
            for _ in postings.rebuild(session, index, most=max(RANGE, (session.scalar(_count(index)) or 0) // 16)):
                yield 0
        for step in self._forgetting(session, index):
            step(session)
            yield 0

    def rebuild(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Write whole ranges of postings; needs CREATE on the schema."""
        yield from postings.rebuild(session, index)

    def worn(self, session: Session, index: SearchIndex) -> Sequence[Callable[[Session], int]]:
        """Where a third of the postings is dead, clean; gather documents far from the others; forget unused words."""
        steps: list[Callable[[Session], int]] = []
        steps += [partial(postings.gather, index=index)] * -(-postings.strays(session, index) // postings.STRAYS)
        if postings.dead_share(session, index) >= postings.WORN:
            steps += [partial(postings.clean_part, index=index, part=part) for part in postings.parts(session, index)]
        if postings.unused_share(session, index) >= postings.UNUSED:
            steps += self._forgetting(session, index)
        return steps

    @staticmethod
    def _forgetting(session: Session, index: SearchIndex) -> Sequence[Callable[[Session], int]]:
        return [partial(postings.forget_terms, index=index, terms=part) for part in postings.term_parts(session, index)]

    def waiting(self, session: Session, index: SearchIndex) -> int:
        """Count the pending documents and removals."""
        return postings.pending_count(session, index)

    def statistics(self, session: Session, index: SearchIndex) -> Statistics:
        """Count terms, rows of postings and postings: a read of all of them."""
        held = index.postings.c.documents
        blocks, entries, dead = session.execute(
            select(
                func.count(),
                func.coalesce(func.sum(case((held > 0, held))), 0),
                func.coalesce(func.sum(case((held < 0, -held))), 0),
            )
        ).one()
        terms = session.scalar(select(func.count()).where(postings.is_word(index))) or 0
        return Statistics(terms, blocks, int(entries), int(dead), self.waiting(session, index))

    def read(self, session: Session, index: SearchIndex, text: str, prefixes: Sequence[str] = ()) -> None:
        """Read nothing: one statement does it all."""

    def leg(
        self,
        index: SearchIndex,
        text: str,
        *,
        candidates: int,
        where: ColumnElement[bool] | None = None,
        prefixes: Sequence[str] = (),
        read: Any = None,
    ) -> Select[Any]:
        """Return the lexical leg, see `hybridsearch.lexical`."""
        return lexical(index, text, candidates=candidates, where=where, prefixes=prefixes)


def _count(index: SearchIndex) -> Select[Any]:
    return select(func.count()).select_from(index.documents)
