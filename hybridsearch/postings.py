"""Keep the lexical index: take documents in, take documents out. All in SQL, by the analysis that queries use too.

A posting block holds one term's occurrences in a run of documents, as arrays sorted by document number. A document is
never changed in place: a new content comes under a new number, and the old number is taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    REAL,
    Integer,
    Text,
    all_,
    any_,
    cast,
    column,
    delete,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by, insert
from sqlalchemy.orm import Session

from hybridsearch.lexical import configuration, entries_of, terms_of
from hybridsearch.model import SearchIndex


@dataclass(frozen=True)
class FieldText:
    """The text of one field of one document, with the field's weight."""

    document: int
    weight: float
    text: str


def add_documents(session: Session, index: SearchIndex, texts: Sequence[FieldText]) -> None:
    """Add documents to the posting blocks, and set their lengths. The numbers must be new to the index."""
    if not texts:
        return
    entries, terms, documents = _entries(index, texts), index.terms, index.documents
    known = select(terms.c.id).where(terms.c.term == entries.c.term).exists()
    # In the order of the terms, so that two writers who bring the same new words cannot deadlock.
    new = select(entries.c.term).distinct().where(~known).order_by(entries.c.term)
    session.execute(insert(terms).from_select(["term"], new).on_conflict_do_nothing())
    length = select(func.sum(entries.c.frequency)).where(entries.c.document == documents.c.id).scalar_subquery()
    numbers = sorted({text.document for text in texts})
    session.execute(
        update(documents).where(documents.c.id.in_(numbers)).values(length=func.coalesce(length, 0.0)),
        execution_options={"synchronize_session": False},
    )
    blocks = (
        select(terms.c.id, *_block(entries.c.document, entries.c.frequency, documents.c.length))
        .join_from(entries, terms, terms.c.term == entries.c.term)
        .join(documents, documents.c.id == entries.c.document)
        .group_by(terms.c.id)
    )
    session.execute(insert(index.postings).from_select(_COLUMNS, blocks))


def remove_documents(session: Session, index: SearchIndex, numbers: Sequence[int]) -> None:
    """Take documents out of the posting blocks, and out of the numbering. Reads every block to find them."""
    if not numbers:
        return
    dead = cast(literal(list(numbers), ARRAY(Integer)), ARRAY(Integer))
    postings = index.postings
    removed = delete(postings).where(postings.c.documents.overlap(dead)).returning(postings).cte("removed")
    entry = entries_of(removed)
    kept = (
        select(removed.c.term_id, *_block(entry.c.document, entry.c.frequency, entry.c.length))
        .join_from(removed, entry, true())
        .where(entry.c.document != all_(dead))
        .group_by(removed.c.term_id, removed.c.first)
    )
    session.execute(insert(postings).from_select(_COLUMNS, kept))
    session.execute(delete(index.documents).where(index.documents.c.id == any_(dead)))


_COLUMNS = ["term_id", "first", "documents", "frequencies", "lengths"]


def _block(document: Any, frequency: Any, length: Any) -> list[Any]:
    """The columns of a block, from rows of one term."""
    return [
        func.min(document).label("first"),
        *(func.array_agg(aggregate_order_by(value, document)) for value in (document, frequency, length)),
    ]


def _entries(index: SearchIndex, texts: Sequence[FieldText]) -> CTE:
    """(document, term, frequency): the terms of each document, fields weighed and added up."""
    given = (
        func.unnest(
            cast(literal([text.document for text in texts], ARRAY(Integer)), ARRAY(Integer)),
            cast(literal([text.weight for text in texts], ARRAY(REAL)), ARRAY(REAL)),
            cast(literal([text.text for text in texts], ARRAY(Text)), ARRAY(Text)),
        )
        .table_valued(column("document", Integer), column("weight", REAL), column("text", Text), name="given")
        .render_derived()
    )
    term = terms_of(configuration(index), given.c.text)
    return (
        select(given.c.document, term.c.term, func.sum(given.c.weight * term.c.frequency).label("frequency"))
        .join_from(given, term, true())
        .group_by(given.c.document, term.c.term)
        .cte("entry")
        .prefix_with("materialized")
    )
