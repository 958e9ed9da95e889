"""The engine `pg_textsearch`: a C extension's bm25 index, where the server has it. Fast; its BM25 is nearly ours.

The index keeps each document's terms as a text in `<name>_word`, so the analysis is that of every other engine. Where
its scores differ is in docs/engines.md: lengths above 40 are rounded, a term counts 255 times at most, and removed
documents count in N, n and the average length until the bm25 index is built again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, MetaData, Select, Table, Text, select
from sqlalchemy.orm import Session

from hybridsearch.engines.base import Statistics
from hybridsearch.errors import ExtensionMissing
from hybridsearch.lexical import lexical
from hybridsearch.model import SearchIndex

_extensions = Table("pg_extension", MetaData(), Column("extname", Text), schema="pg_catalog")


class TextsearchEngine:
    """pg_textsearch 1.0 or later, in this database."""

    name = "pg_textsearch"

    def prepare(self, session: Session, index: SearchIndex) -> None:
        """Check that the extension is there. Raises ExtensionMissing."""
        if session.scalar(select(_extensions.c.extname).where(_extensions.c.extname == self.name)) is None:
            raise ExtensionMissing(
                f'index "{index.name}" is ranked by pg_textsearch, which this database does not have: '
                f'`create extension pg_textsearch`, or declare the index with engine="sql"'
            )

    def fill(self, session: Session, index: SearchIndex, recipe: str) -> int:
        """Leave them to be added one by one."""
        return 0

    def compact(self, session: Session, index: SearchIndex) -> int:
        """Nothing to merge: the extension does that by itself."""
        return 0

    def clean(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Nothing to drop: VACUUM does that."""
        yield from ()

    def rebuild(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Nothing: REINDEX does that."""
        yield from ()

    def worn(self, session: Session, index: SearchIndex) -> Sequence[Callable[[Session], int]]:
        """Nothing: VACUUM does that."""
        return ()

    def waiting(self, session: Session, index: SearchIndex) -> int:
        """Nothing waits."""
        return 0

    def statistics(self, session: Session, index: SearchIndex) -> Statistics:
        """The extension does not tell."""
        return Statistics()

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
        """Return the lexical leg, see `hybridsearch.lexical`; it asks the extension. Prefixes find nothing."""
        return lexical(index, text, candidates=candidates, where=where)
