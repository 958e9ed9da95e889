"""Ask the database why: one statement gives the ranking and everything that the scores are made of, of one snapshot.

explain(session, index, query, plan)[0].lexical.terms[0].idf

The legs, their fusion and the documents are those of a search; `hybridsearch.explanation` does the sums again.
"""

from collections.abc import Mapping
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import ColumnElement, Select, func, select, true, type_coerce
from sqlalchemy.orm import Session

from hybridsearch.explain_terms import lexical_part, with_terms
from hybridsearch.explanation import (
    DensePart,
    Explanation,
    LegPart,
    SparsePart,
    Spread,
    arithmetic,
    inner_product,
)
from hybridsearch.hits import documents, hit_of
from hybridsearch.keys import identity
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
    if "lexical" in found:
        statement = with_terms(statement, index, query)
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
    key = identity(index, hit.document)
    return Explanation(
        rank=rank,
        key=dict(zip((column.name for column in index.keys), key, strict=True)),
        document=hit.document,
        score=hit.score,
        legs=parts,
        boosts=hit.boosts,
        dense=DensePart(-scores["dense"]) if "dense" in scores else None,
        sparse=_sparse(query, scores["sparse"], values) if "sparse" in scores else None,
        lexical=lexical_part(index, query, scores["lexical"], key, values) if "lexical" in scores else None,
    )


def _spread(values: Any, leg: str) -> Spread | None:
    figures = [values.get(f"{name}_{leg}") for name in ("first", "last", "mean", "deviation")]
    return None if figures[0] is None else Spread(*(float(figure or 0.0) for figure in figures))


def _sparse(query: Query, score: float, values: Any) -> SparsePart:
    stored = values["best_sparse"]
    weights = {int(token): float(weight) for token, weight in zip(stored.indices(), stored.values(), strict=True)}
    return inner_product(score, query.sparse or {}, weights)
