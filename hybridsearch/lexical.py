"""The lexical leg: exact BM25 over the posting blocks, in SQL.

    lexical(index, "red chair", candidates=100)     # Select(article_id, distance)

Every posting of the query's terms is scored. N, n and the average length are those of the statement's own snapshot.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    cast,
    column,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import REGCONFIG

from hybridsearch.model import SearchIndex

DOUBLE = Float(53)


def terms_of(config: ColumnElement[Any], text: ColumnElement[str]) -> Any:
    """Return hybridsearch.terms(config, text) as a FROM element with `term` and `frequency`."""
    return func.hybridsearch.terms(config, text).table_valued(
        column("term", Text), column("frequency", Integer), name="query"
    )


def configuration(index: SearchIndex) -> ColumnElement[Any]:
    """Return the index's text search configuration as an expression."""
    return cast(literal(index.config, String), REGCONFIG)


def entries_of(blocks: FromClause) -> Any:
    """Return the entries of posting blocks as a FROM element with `document`, `frequency` and `length`."""
    return (
        func.unnest(blocks.c.documents, blocks.c.frequencies, blocks.c.lengths)
        .table_valued(column("document", Integer), column("frequency", REAL), column("length", REAL), name="entry")
        .render_derived()
    )


def lexical(index: SearchIndex, text: str, *, candidates: int, where: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return the best `candidates` documents by BM25: their keys and `distance`, the negated score, nearest first.

    Ties are broken by key. A term that occurs twice in the query counts twice. Only documents of which `where`, a
    condition on the model, holds are candidates; the statistics stay those of the whole index.
    """
    scored = _scores(index, text)
    documents = index.documents
    keys = index.key_columns(documents)
    distance = (-scored.c.score).label("distance")
    leg = (
        select(*keys, distance)
        .join_from(scored, documents, documents.c.id == scored.c.document)
        # The row must still be there: deletion is seen at once, the postings follow with the next indexing.
        .join(index.table, index.same_row(documents))
    )
    if where is not None:
        leg = leg.where(where)
    return leg.order_by(distance, *keys).limit(candidates)


def _scores(index: SearchIndex, text: str) -> Any:
    """(document, score) for every document that has a term of the query."""
    documents, postings, terms = index.documents, index.postings, index.terms
    query = terms_of(configuration(index), literal(text, Text))
    wanted = (
        select(terms.c.id, query.c.frequency)
        .join_from(query, terms, terms.c.term == query.c.term)
        .cte("wanted")
        .prefix_with("materialized")
    )
    statistics = (
        select(
            func.count().label("documents"), func.avg(cast(documents.c.length, DOUBLE), type_=DOUBLE).label("average")
        )
        .select_from(documents)
        .cte("statistics")
        .prefix_with("materialized")
    )
    found = (
        select(wanted.c.id, func.sum(func.cardinality(postings.c.documents)).label("found"))
        .join_from(wanted, postings, postings.c.term_id == wanted.c.id)
        .group_by(wanted.c.id)
        .subquery("found")
    )
    n = cast(found.c.found, DOUBLE)
    idf = func.ln(1 + (statistics.c.documents - n + 0.5) / (n + 0.5))
    weights = (
        select(wanted.c.id, (wanted.c.frequency * idf).label("weight"), statistics.c.average)
        .join_from(wanted, found, found.c.id == wanted.c.id)
        .join(statistics, true())
        .cte("weight")
        .prefix_with("materialized")
    )
    posting = entries_of(postings)
    k1, b = index.bm25.k1, index.bm25.b
    frequency, length = cast(posting.c.frequency, DOUBLE), cast(posting.c.length, DOUBLE)
    saturated = frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * length / weights.c.average))
    return (
        select(posting.c.document, func.sum(weights.c.weight * saturated).label("score"))
        .join_from(weights, postings, postings.c.term_id == weights.c.id)
        .join(posting, true())
        .group_by(posting.c.document)
        .subquery("scored")
    )
