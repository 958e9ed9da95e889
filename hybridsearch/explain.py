"""Ask the database why: one statement gives the ranking and everything that the scores are made of, of one snapshot.

explain(session, index, query, plan)[0].lexical.terms[0].idf

The legs, their fusion and the documents are those of a search; `hybridsearch.explanation` does the sums again.
"""

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import (
    CTE,
    REAL,
    ColumnElement,
    Integer,
    Select,
    Text,
    case,
    cast,
    func,
    literal,
    select,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.explanation import (
    Asked,
    DensePart,
    Explanation,
    LegPart,
    LexicalPart,
    SparsePart,
    Spread,
    Statistics,
    arithmetic,
    bm25,
    inner_product,
)
from hybridsearch.hits import documents, hit_of
from hybridsearch.keys import identity
from hybridsearch.lexical import DOUBLE, asked, changes, row_configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import fused, leg_names, legs
from hybridsearch.sparse_vector import sparse_vector


def explain(session: Session, index: SearchIndex, query: Query, plan: Plan) -> list[Explanation]:
    """Return the hits of a search, best first, each with what its score is made of."""
    rows = session.execute(_statement(index, query, plan))
    return [_explanation(index, query, plan, rank, row) for rank, row in enumerate(rows, 1)]


def _statement(index: SearchIndex, query: Query, plan: Plan) -> Select[Any]:
    """The statement of a search, and beside each hit what its scores in the legs are made of."""
    found = legs(index, query, plan)
    statement = documents(index, fused(index, found, plan).limit(plan.limit), query)
    if plan.fusion in ("minmax", "zscore"):
        statement = _with_spreads(statement, found)
    if "lexical" in found and _has_parts(index):
        statement = _with_terms(statement, index, query)
    if "sparse" in found:
        statement = _with_tokens(statement, index, query.sparse or {})
    return statement


def _with_spreads(statement: Select[Any], found: Mapping[str, Select[Any]]) -> Select[Any]:
    """The figures of each leg's distances that its scores are measured by."""
    for name, leg in found.items():
        distance = leg.cte(f"leg_{name}").c.distance
        figures: list[ColumnElement[Any]] = [
            func.min(distance).label(f"first_{name}"),
            func.max(distance).label(f"last_{name}"),
            func.avg(distance).label(f"mean_{name}"),
            func.stddev_samp(distance).label(f"deviation_{name}"),
        ]
        spread = select(*figures).subquery(f"spread_{name}")
        statement = statement.join(spread, true()).add_columns(*spread.c)
    return statement


def _with_terms(statement: Select[Any], index: SearchIndex, query: Query) -> Select[Any]:
    changed = select(*changes(index).c).cte("changes").prefix_with("materialized")
    found = _asked(index, query, changed)
    statistics = _statistics(index, changed)
    own = _frequencies(index, found).lateral("own")
    stored = index.documents.alias("stored")
    arrays = select(
        func.array_agg(found.c.term).label("asked_terms"),
        func.array_agg(found.c.times).label("asked_times"),
        func.array_agg(found.c.documents).label("asked_documents"),
    ).cte("asked_arrays")
    return (
        statement.join(arrays, true())
        .outerjoin(statistics, true())
        .outerjoin(stored, index.same_row(stored))
        .outerjoin(changed, index.same_row(changed))
        .outerjoin(own, true())
        .add_columns(
            *arrays.c,
            statistics.c.documents.label("all_documents"),
            statistics.c.average.label("average_length"),
            func.coalesce(changed.c.length, stored.c.length).label("length"),
            own.c.own_terms,
            own.c.own_frequencies,
        )
    )


def _asked(index: SearchIndex, query: Query, changed: CTE) -> CTE:
    """(term, times, documents) of the query's terms that a document has."""
    wanted = asked(index, query.text or "", query.prefixes).subquery("wanted_terms")
    terms, postings, pending = index.terms, index.postings, index.pending
    counts: list[Select[Any]] = [
        select(func.coalesce(func.sum(postings.c.documents), 0)).where(postings.c.term_id == terms.c.id),
        select(func.coalesce(func.sum(pending.c.sign), 0)).where(terms.c.id == func.any(pending.c.terms)),
        select(func.count()).select_from(changed).where(wanted.c.term == func.any(changed.c.words)),
        select(-func.count()).select_from(changed).where(terms.c.id == func.any(changed.c.old_terms)),
    ]
    documents: ColumnElement[Any] = reduce(add, (count.scalar_subquery() for count in counts))
    counted: list[ColumnElement[Any]] = [
        wanted.c.term,
        cast(wanted.c.times, Integer).label("times"),
        cast(documents, Integer).label("documents"),
    ]
    every = (
        select(*counted).join_from(wanted, terms, terms.c.term == wanted.c.term, isouter=True).subquery("every_term")
    )
    return select(*every.c).where(every.c.documents > 0).cte("asked").prefix_with("materialized")


def _statistics(index: SearchIndex, changed: CTE) -> CTE:
    """(documents, average): the merged ones, the pending ones and the changed ones, as the lexical leg counts them."""
    pending = index.pending
    merged = select(
        func.coalesce(func.sum(index.statistics.c.documents), 0).label("documents"),
        func.coalesce(func.sum(index.statistics.c.length), 0.0).label("length"),
    ).subquery("merged")
    waiting = select(
        func.coalesce(func.sum(pending.c.sign), 0).label("documents"),
        func.coalesce(func.sum(pending.c.sign * cast(pending.c.length, DOUBLE)), 0.0).label("length"),
    ).subquery("waiting")
    lengths = [func.coalesce(func.sum(cast(changed.c[name], DOUBLE)), 0.0) for name in ("length", "old_length")]
    live = select(
        (func.count(changed.c.length) - func.count(changed.c.old_length)).label("documents"),
        (lengths[0] - lengths[1]).label("length"),
    ).subquery("live")
    parts = (merged, waiting, live)
    total = cast(reduce(add, (part.c.documents for part in parts)), DOUBLE)
    length = reduce(add, (part.c.length for part in parts))
    average = case((total > 0, func.greatest(length / func.nullif(total, 0), 1e-30)), else_=1.0)
    figures: list[ColumnElement[Any]] = [
        cast(total, Integer).label("documents"),
        cast(average, DOUBLE).label("average"),
    ]
    return select(*figures).select_from(merged.join(waiting, true()).join(live, true())).cte("collection")


def _frequencies(index: SearchIndex, wanted: CTE) -> Select[Any]:
    """The asked terms that the row's text has, and their weighted frequencies, as two arrays."""
    fields = []
    for name, weight in index.fields.items():
        word = terms_of(row_configuration(index), cast(index.mapper.column_attrs[name].columns[0], Text)).alias("word")
        fields.append(
            select(word.c.term, (literal(weight, REAL) * word.c.frequency).label("frequency")).correlate(index.table)
        )
    every = union_all(*fields).subquery("every")
    counted = (
        select(every.c.term, cast(cast(func.sum(every.c.frequency), REAL), DOUBLE).label("frequency"))
        .where(every.c.term.in_(select(wanted.c.term)))
        .group_by(every.c.term)
        .subquery("counted")
    )
    arrays: list[ColumnElement[Any]] = [
        func.array_agg(counted.c.term, type_=ARRAY(Text)).label("own_terms"),
        func.array_agg(counted.c.frequency, type_=ARRAY(DOUBLE)).label("own_frequencies"),
    ]
    return select(*arrays)


def _with_tokens(statement: Select[Any], index: SearchIndex, weights: Mapping[int, float]) -> Select[Any]:
    chunks = index.chunks.alias("weighed")
    vector = type_coerce(sparse_vector(index, weights), SPARSEVEC(index.encoder.sparse_dimensions))
    product = chunks.c.sparse.max_inner_product(vector)
    best = (
        select(chunks.c.sparse.label("best_sparse"))
        .where(index.same_row(chunks))
        .order_by(product, chunks.c.ordinal)
        .limit(1)
        .correlate(index.table)
        .lateral("best_chunk")
    )
    return statement.outerjoin(best, true()).add_columns(best.c.best_sparse)


def _explanation(index: SearchIndex, query: Query, plan: Plan, rank: int, row: Any) -> Explanation:
    hit, values = hit_of(row), row._mapping
    scores = {name: -float(distance) for name, distance in hit.distances.items()}
    whole = sum(plan.weights[name] for name in leg_names(index, query, plan))
    parts = {}
    for name, place in hit.ranks.items():
        weight = plan.weights[name] / (1.0 if plan.fusion == "rrf" else whole)
        said = arithmetic(plan.fusion, place, hit.distances[name], weight, plan.rrf_k, _spread(values, name))
        parts[name] = LegPart(place, scores[name], plan.weights[name], hit.shares[name], said)
    return Explanation(
        rank=rank,
        key=dict(zip((key.name for key in index.keys), identity(index, hit.document), strict=True)),
        document=hit.document,
        score=hit.score,
        legs=parts,
        boosts=hit.boosts,
        dense=DensePart(-scores["dense"]) if "dense" in scores else None,
        sparse=_sparse(query, scores["sparse"], values) if "sparse" in scores else None,
        lexical=_lexical(index, scores["lexical"], values) if "lexical" in scores else None,
    )


def _spread(values: Any, leg: str) -> Spread | None:
    figures = [values.get(f"{name}_{leg}") for name in ("first", "last", "mean", "deviation")]
    return None if figures[0] is None else Spread(*(float(figure or 0.0) for figure in figures))


def _has_parts(index: SearchIndex) -> bool:
    """Whether a lexical score is taken apart: only that of the engine sql, by Lucene's formula."""
    return index.engine == "sql" and index.bm25.idf == "lucene"


def _lexical(index: SearchIndex, score: float, values: Any) -> LexicalPart | None:
    if not _has_parts(index):
        return None
    asked = zip(values["asked_terms"], values["asked_times"], values["asked_documents"], strict=True)
    return bm25(
        score,
        float(values["length"]),
        dict(zip(values["own_terms"] or (), values["own_frequencies"] or (), strict=True)),
        tuple(Asked(*entry) for entry in asked),
        Statistics(values["all_documents"], values["average_length"], index.bm25.k1, index.bm25.b),
    )


def _sparse(query: Query, score: float, values: Any) -> SparsePart:
    stored = values["best_sparse"]
    weights = {int(token): float(weight) for token, weight in zip(stored.indices(), stored.values(), strict=True)}
    return inner_product(score, query.sparse or {}, weights)
