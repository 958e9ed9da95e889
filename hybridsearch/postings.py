"""Keep the lexical index: take documents in, take documents out, merge, clean. The work is done by SQL functions.

    add_documents(session, articles, [1, 2])
    compact(session, articles)

Documents, and removals of documents, wait in `<name>_pending`, which every query reads; `compact` merges them into the
postings. A document is never changed in place: a new content comes under a new number, and the old number is taken out.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, cast, column, exists, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.companions import RANGE
from hybridsearch.constant import DOUBLE
from hybridsearch.lexical import relation, routine
from hybridsearch.model import SearchIndex
from hybridsearch.state import lock

BATCH = 16_000  # documents that one step of compaction merges, at most
STRAYS = 1000  # documents that one step gathers
LAST = 2**31 - 1  # the last number that there is
STEP = 1_048_576  # rows that one step of a build takes, at most: a list is written once


def prepare(session: Session, index: SearchIndex) -> None:
    """Make the lexical index ready for documents: to be called before the first, and harmless after."""
    _call(session, "prepare", relation(index.statistics), cast(index.bm25.k1, DOUBLE), cast(index.bm25.b, DOUBLE))


def add_documents(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    """Index the words of documents that were just numbered, from their rows as they are, and set lengths and terms."""
    if numbers:
        session.execute(select(routine(index, "add", _array(numbers, Integer))))


def remove_documents(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    """Take documents out of the index, and out of the numbering."""
    if numbers:
        session.execute(select(routine(index, "remove", _array(numbers, Integer))))


def build(session: Session, index: SearchIndex, *, recipe: str = "", most: int = STEP) -> int:
    """Number rows that have no document, in the order of their keys, and index their words; return how many there were.

    For many rows: they go past `<name>_pending` into whole ranges of postings, 20 times as fast as one after the other.
    A document's hash is sha256 of `recipe` and a JSON array of its fields' texts. One step of at most so many rows; the
    caller commits, and calls again until it is 0. Nobody else may number documents of the index in the meantime.
    """
    return int(session.scalar(select(routine(index, "build", cast(recipe, Text), cast(most, Integer)))) or 0)


def may_build(session: Session, index: SearchIndex) -> bool:
    """Return whether the role may make tables in the index's schema, as `build` and `rebuild` do while they run."""
    may = func.has_schema_privilege(column("relnamespace"), "CREATE")
    return bool(
        session.scalar(
            select(may).select_from(text("pg_catalog.pg_class")).where(column("oid") == relation(index.postings))
        )
    )


def rebuild(session: Session, index: SearchIndex, *, most: int = STEP) -> Iterator[int]:
    """Write the whole index anew beside the old one, a part at a time; yield how many documents each had.

    Documents get new numbers, without gaps, with the idf of now; what belongs to removed documents goes. The caller
    commits after each step; readers go on, the words of changed rows wait.
    """
    before = end(session, index)
    while step := rebuild_part(session, index, before, most=most):
        yield step


def end(session: Session, index: SearchIndex) -> int:
    """Return the number after the last document's."""
    return (session.scalar(select(func.max(index.documents.c.id))) or 0) + 1


def used(session: Session, index: SearchIndex) -> float:
    """Return the share of the numbers that are used up: of documents, and of the pieces of the encoder's weights."""
    numbers = [index.documents.c.id, *([index.pieces.c.number] if index.sparse_tables else [])]
    highest = [session.scalar(select(func.max(number))) or 0 for number in numbers]
    return float(max(highest) / LAST)


def rebuild_part(session: Session, index: SearchIndex, before: int, *, most: int) -> int:
    """Write the lowest ranges anew, of documents below a number; return how many they had, 0 at the end."""
    lock(session, index, "words")
    return int(session.scalar(select(routine(index, "rebuild", cast(before, Integer), cast(most, Integer)))) or 0)


def is_spread(session: Session, index: SearchIndex) -> bool:
    """Return whether the documents' numbers span more than twice the ranges that they need: each costs a query time."""
    number = index.documents.c.id
    return bool(session.scalar(select(func.min(number) < _outlying(session, index))))


def _outlying(session: Session, index: SearchIndex) -> int:
    """Return the number below which documents should not be: twice the ranges that they need from the end."""
    number = index.documents.c.id
    last, count = session.execute(select(func.max(number), func.count())).one()
    return int((last or 0) // RANGE - 2 * (count // RANGE) - 1) * RANGE


def gather(session: Session, index: SearchIndex, *, most: int = STRAYS) -> int:
    """Let some documents whose numbers are far from the others' have the next ones; return how many, 0 at the end.

    What they have in the ranges that they leave is dead. The caller commits; the words of changed rows wait.
    """
    lock(session, index, "words")
    number = index.documents.c.id
    outlying = number < _outlying(session, index)
    strays = list(session.scalars(select(number).where(outlying).order_by(number).limit(most)))
    moved = session.scalar(select(routine(index, "renumber", _array(strays, Integer)))) if strays else 0
    while moved and compact(session, index):
        pass
    return int(moved or 0)


def strays(session: Session, index: SearchIndex) -> int:
    """Return how many documents `gather` would move."""
    outlying = index.documents.c.id < _outlying(session, index)
    return session.scalar(select(func.count()).select_from(index.documents).where(outlying)) or 0


def compact(session: Session, index: SearchIndex, *, documents: int = BATCH) -> int:
    """Merge at most so many pending documents and removals into the postings; return how many there were.

    The caller commits, and calls again until it is 0. One at a time merges, under an advisory lock; readers go on, and
    so do writers, but for the removal of a document that is just being merged, which waits for it.
    """
    tables = (index.postings, index.pending, index.statistics, index.documents, index.terms)
    return int(_call(session, "compact", *map(relation, tables), cast(documents, Integer)))


@dataclass(frozen=True)
class Part:
    """What one step of cleaning looks at, of some terms: their rows of one range, or all others (range -1)."""

    range: int
    lowest: int
    highest: int


LISTS = 100_000  # terms that one step looks at


def parts(session: Session, index: SearchIndex) -> list[Part]:
    """Return the parts of the postings that there are. Reads the keys of all rows."""
    range_, slice_ = func.greatest(index.postings.c.place, -1), (index.postings.c.term_id - 1) // LISTS
    found = select(range_, slice_).distinct().order_by(range_, slice_)
    return [Part(number, LISTS * n + 1, LISTS * (n + 1)) for number, n in session.execute(found)]


def term_parts(session: Session, index: SearchIndex) -> list[range]:
    """Return the numbers of the terms in parts of which one step takes one."""
    terms = session.scalar(select(func.max(index.terms.c.id))) or 0
    return [range(lowest, lowest + LISTS) for lowest in range(1, terms + 1, LISTS)]


def clean_part(session: Session, index: SearchIndex, part: Part) -> int:
    """Drop the postings of removed documents from a part; return how many went. The caller commits."""
    tables = (relation(index.postings), relation(index.documents))
    return int(_call(session, "clean", *tables, part.range, part.lowest, part.highest))


def clean(session: Session, index: SearchIndex) -> Iterator[int]:
    """Drop the postings of removed documents, part by part; yield how many went in each.

    The caller commits after each step.
    """
    for part in parts(session, index):
        yield clean_part(session, index, part)


def dead_share(session: Session, index: SearchIndex) -> float:
    """Estimate the share of the postings that belongs to removed documents, by the terms of some: cheap for any index.

    By those terms, as they are mostly in rows of ranges: in lists nothing is dead.
    """
    number = index.documents.c.id
    first, last = session.execute(select(func.min(number), func.max(number))).one()
    if first is None:
        return float(session.scalar(select(exists(select(index.postings.c.place)))) or 0)
    some = select(index.documents.c.terms).where(number >= random.randint(first, last)).order_by(number).limit(SAMPLE)
    held, terms = index.postings.c.documents, select(func.unnest(some.subquery().c.terms))
    found, dead = session.execute(
        select(func.sum(func.greatest(held, 0)), func.sum(func.greatest(-held, 0))).where(
            index.postings.c.term_id.in_(terms)
        )
    ).one()
    return float(dead / found) if found else 0.0


SAMPLE = 20  # documents


def forget_terms(session: Session, index: SearchIndex, terms: range) -> int:
    """Forget the words that are in no document any more, of some; return how many. The caller commits.

    None while somebody else adds documents. New words take their numbers. A merge does so with those that it sees go.
    """
    lock(session, index, "words")  # who adds documents has looked their words up
    tables = (index.terms, index.postings, index.pending)
    number = func.generate_series(terms[0], terms[-1]).column_valued("number")
    numbers = select(func.array_agg(cast(number, Integer))).scalar_subquery()
    return int(_call(session, "forget_terms", *map(relation, tables), numbers))


def is_word(index: SearchIndex) -> ColumnElement[bool]:
    """Return the condition that a row of the dictionary is a word, and not the number of one that was forgotten."""
    return index.terms.c.term > "\x02"


def unused_share(session: Session, index: SearchIndex) -> float:
    """Estimate the share of the words that are in no document any more, by some: cheap for any index."""
    last = session.scalar(select(func.max(index.terms.c.id))) or 0
    sample = random.sample(range(1, last + 1), min(last, TERMS))
    term = index.terms.c.id
    unused = ~exists(select(index.postings.c.place).where(index.postings.c.term_id == term))
    found, without = session.execute(
        select(func.count(), func.count().filter(is_word(index), unused)).where(
            term == func.any(_array(sample, Integer))
        )
    ).one()
    return float(without / found) if found else 0.0


TERMS = 2000
UNUSED = 1 / 5  # share of the words in no document that is worth a look at all
WORN = 1 / 3  # share of dead postings that is worth cleaning while there is nothing else to do


def pending_count(session: Session, index: SearchIndex) -> int:
    """Return how many documents and removals wait to be merged."""
    return session.scalar(select(func.count()).select_from(index.pending)) or 0


def _array(values: Sequence[Any], type_: Any) -> Any:
    return cast(literal(list(values), ARRAY(type_)), ARRAY(type_))


def _call(session: Session, name: str, *arguments: Any) -> Any:
    return session.scalar(select(getattr(func.hybridsearch, name)(*arguments)))
