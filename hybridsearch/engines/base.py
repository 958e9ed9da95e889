"""What a lexical engine is: how documents get into it, what a search asks it for.

    engine = engine_of(index)
    engine.compact(session, index)
    engine.leg(index, "red chair", candidates=100)        # Select(article_id, distance)

The text analysis is ours in every engine (`hybridsearch.terms`, in SQL): an engine keeps terms, and ranks. Documents go
in and out by two functions of the index, which the engine's templates in `sql/index/` make: `<name>_add(numbers)` takes
documents in that were just numbered, from their rows as they are; `<name>_remove(numbers)` takes them out, also out of
the table of documents.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import Session

from hybridsearch.model import SearchIndex


@dataclass(frozen=True)
class Statistics:
    """What an engine has stored: terms, rows of postings, postings, those of removed documents, waiting documents."""

    terms: int = 0
    blocks: int = 0
    postings: int = 0
    dead: int = 0
    pending: int = 0


class LexicalEngine(Protocol):
    """One way to rank documents by their words. Has no state of an index but what can be read again from its rows."""

    name: str

    def prepare(self, session: Session, index: SearchIndex) -> None:
        """Make the engine's tables ready for documents: called before the first, and harmless after."""

    def fill(self, session: Session, index: SearchIndex, recipe: str) -> int:
        """Number and index many new rows at once, in one bounded step; return how many, 0 where this is not done.

        A document's hash is sha256 of `recipe` and a JSON array of its fields' texts. The caller commits.
        """

    def compact(self, session: Session, index: SearchIndex) -> int:
        """Do one bounded step of merging; return how many documents it took, 0 at the end. The caller commits."""

    def clean(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Drop what is left of removed documents, in bounded steps; the caller commits after each."""

    def rebuild(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Write what is stored anew beside the old, in bounded steps, with the statistics of now.

        Yield how many documents each had; the caller commits after each.
        """

    def worn(self, session: Session, index: SearchIndex) -> Sequence[Callable[[Session], int]]:
        """Return what to do where much is left of removed documents: bounded steps of `clean`. Cheap to ask."""

    def waiting(self, session: Session, index: SearchIndex) -> int:
        """Return how many documents and removals wait for `compact`."""

    def statistics(self, session: Session, index: SearchIndex) -> Statistics:
        """Count what is stored; zeros where the engine does not store it, or does not tell."""

    def read(self, session: Session, index: SearchIndex, text: str, prefixes: Sequence[str] = ()) -> Any:
        """Return what `leg` needs to know of the rows beforehand; None where it all happens in the statement."""

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
        """Return the best documents: their keys and `distance`, the negated score, nearest first, ties by key.

        Beside the terms of the text, terms that begin with one of the `prefixes` count once. `where`, a condition on
        the model, holds for all of them. `read` is what `read` gave for the same text.
        """
