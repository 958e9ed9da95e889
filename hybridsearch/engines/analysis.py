"""Weighted term counts of texts, by the SQL function that every engine and every query goes through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import DOUBLE_PRECISION, Integer, Text, cast, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch.lexical import configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.segmentation import take

Counts = Mapping[str, float]


@dataclass(frozen=True)
class Content:
    """A text of a document, what its words count, and its configuration; None for that of queries."""

    document: int
    weight: float
    text: str
    config: str | None = None


def analysed(session: Session, index: SearchIndex, contents: Sequence[Content]) -> Mapping[int, Counts]:
    """Return the weighted term counts of every document that has a term.

    Where the index has a segmenter, Chinese becomes its words; everything else the terms of `hybridsearch.terms`.
    """
    segmented: list[tuple[Content, list[str]]] = []
    if index.segmenter is not None:
        parted = [(content, *take(index.segmenter, content.text)) for content in contents]
        contents = [replace(content, text=rest) for content, rest, _ in parted]
        segmented = [(content, words) for content, _, words in parted]
    counts = {document: dict(known) for document, known in _in_sql(session, index, contents).items()}
    for content, words in segmented:
        for word in words:
            known = counts.setdefault(content.document, {})
            known[word] = known.get(word, 0.0) + content.weight
    return counts


def _in_sql(session: Session, index: SearchIndex, contents: Sequence[Content]) -> dict[int, Counts]:
    given = (
        func.unnest(
            _array([content.document for content in contents], Integer),
            _array([content.weight for content in contents], DOUBLE_PRECISION),
            _array([content.text for content in contents], Text),
            _array([content.config for content in contents], Text),
        )
        .table_valued(
            column("document", Integer),
            column("weight", DOUBLE_PRECISION),
            column("content", Text),
            column("config", Text),
        )
        .render_derived(name="given")
    )
    config = func.coalesce(cast(given.c.config, REGCONFIG), configuration(index))
    term = terms_of(config, given.c.content).lateral()
    entry = (
        select(given.c.document, term.c.term, func.sum(given.c.weight * term.c.frequency).label("frequency"))
        .join_from(given, term, true())
        .group_by(given.c.document, term.c.term)
        .subquery("entry")
    )
    counts = func.jsonb_object_agg(entry.c.term, entry.c.frequency, type_=JSONB)
    rows = session.execute(select(entry.c.document, counts).group_by(entry.c.document))
    return {row[0]: row[1] for row in rows}


def _array(values: Sequence[Any], type_: Any) -> Any:
    return cast(literal(list(values), ARRAY(type_)), ARRAY(type_))
