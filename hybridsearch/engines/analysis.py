"""Weighted term counts of texts, by the SQL function that every engine and every query goes through."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import DOUBLE_PRECISION, Integer, Text, cast, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from hybridsearch.lexical import configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.postings import FieldText


def entries(index: SearchIndex, texts: Sequence[FieldText]) -> Any:
    """Return (document, term, frequency) as a FROM element: one row a term of a document, weighted and summed up."""
    given = (
        func.unnest(
            _array([text.document for text in texts], Integer),
            _array([text.weight for text in texts], DOUBLE_PRECISION),
            _array([text.text for text in texts], Text),
        )
        .table_valued(column("document", Integer), column("weight", DOUBLE_PRECISION), column("content", Text))
        .render_derived(name="given")
    )
    term = terms_of(configuration(index), given.c.content).lateral()
    return (
        select(given.c.document, term.c.term, func.sum(given.c.weight * term.c.frequency).label("frequency"))
        .join_from(given, term, true())
        .group_by(given.c.document, term.c.term)
        .subquery("entry")
    )


def _array(values: Sequence[Any], type_: Any) -> Any:
    return cast(literal(list(values), ARRAY(type_)), ARRAY(type_))
