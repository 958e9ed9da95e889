"""The lexical leg: exact BM25, the best documents without scoring all of them, by SQL functions of our own.

    lexical(index, "red chair", candidates=100)     # Select(article_id, distance)

N, n and the average length are those of the statement's own snapshot. docs/sparse-engine.md says how it works.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    String,
    Table,
    Text,
    cast,
    column,
    func,
    literal,
    null,
    select,
    true,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, REGCLASS, REGCONFIG

from hybridsearch.model import SearchIndex

DOUBLE = Float(53)
_preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


def relation(table: Table) -> ColumnElement[Any]:
    """Return a table as an argument of a function that takes a regclass."""
    return cast(literal(_preparer.format_table(table), String), REGCLASS)


def terms_of(config: ColumnElement[Any], text: ColumnElement[str]) -> Any:
    """Return hybridsearch.terms(config, text) as a FROM element with `term` and `frequency`."""
    return func.hybridsearch.terms(config, text).table_valued(
        column("term", Text), column("frequency", Integer), name="query"
    )


def configuration(index: SearchIndex) -> ColumnElement[Any]:
    """Return the index's text search configuration as an expression."""
    return cast(literal(index.config, String), REGCONFIG)


def lexical(index: SearchIndex, text: str, *, candidates: int, where: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return the best `candidates` documents by BM25: their keys and `distance`, the negated score, nearest first.

    Equal scores are ordered by key; which of them are the last candidates, by their age in the index. A term that
    occurs twice in the query counts twice. Only documents of which `where`, a condition on the model, holds are
    candidates; the statistics stay those of the whole index.
    """
    documents = index.documents
    keys = index.key_columns(documents)
    best = _best(index, text, candidates, where)
    distance = (-best.c.score).label("distance")
    return (
        select(*keys, distance)
        .join_from(best, documents, documents.c.id == best.c.document)
        .order_by(distance, *keys)
        .limit(candidates)
    )


def _best(index: SearchIndex, text: str, candidates: int, where: ColumnElement[bool] | None) -> Any:
    """(document, score) of the best documents, as a subquery."""
    terms = index.terms
    query = terms_of(configuration(index), literal(text, Text))
    # A term may come twice, from two of the analysers.
    term = (
        select(terms.c.id, func.sum(query.c.frequency).label("times"))
        .join_from(query, terms, terms.c.term == query.c.term)
        .group_by(terms.c.id)
        .subquery("term")
    )
    wanted = (
        select(func.array_agg(term.c.id).label("ids"), func.array_agg(cast(term.c.times, Integer)).label("times"))
        .cte("wanted")
        .prefix_with("materialized")
    )
    best = (
        func.hybridsearch.best(
            *(relation(table) for table in (index.postings, index.pending, index.statistics, index.documents)),
            relation(index.table),
            _names([key.name for key in index.keys]),
            _names(index.key_names),
            wanted.c.ids,
            wanted.c.times,
            cast(candidates, Integer),
            cast(index.bm25.k1, DOUBLE),
            cast(index.bm25.b, DOUBLE),
            cast(null(), ARRAY(Integer)) if where is None else _allowed(index, where),
        )
        .table_valued(column("document", Integer), column("score", DOUBLE), name="best")
        .lateral()
    )
    return select(best.c.document, best.c.score).join_from(wanted, best, true()).subquery("scored")


def _allowed(index: SearchIndex, where: ColumnElement[bool]) -> ColumnElement[Any]:
    """The numbers of the documents of which a condition on the model holds."""
    documents = index.documents
    numbers = func.coalesce(func.array_agg(documents.c.id), cast([], ARRAY(Integer)))
    return select(numbers).join_from(documents, index.table, index.same_row(documents)).where(where).scalar_subquery()


def _names(names: Any) -> ColumnElement[Any]:
    return cast(literal(list(names), ARRAY(Text)), ARRAY(Text))
