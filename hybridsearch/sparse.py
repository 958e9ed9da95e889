"""The sparse leg: the encoder's own term weights, by exact inner product with the chunks.

    sparse(index, {17: 0.21, 902: 0.08}, candidates=100)        # Select(article_id, distance)

A function of the index's own finds the best without comparing all: docs/sparse-engine.md says how it works.
"""

from collections.abc import Mapping
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import Column, ColumnElement, Float, Integer, Select, cast, func, literal, select

from hybridsearch.conditions import of_model
from hybridsearch.filtering import full
from hybridsearch.lexical import routine
from hybridsearch.model import SearchIndex
from hybridsearch.sparse_vector import sparse_vector


def sparse(
    index: SearchIndex,
    weights: Mapping[int, float],
    *,
    candidates: int,
    where: ColumnElement[bool] | None = None,
) -> Select[Any]:
    """Return the best documents by the inner product of their best chunk: keys and `distance`, the negated product.

    `weights` maps token ids (0-based) to weights. A chunk that shares no token with the query is no candidate. Ties are
    broken by key. With `where`, a condition on the model, only documents of which it holds.
    """

    def best(count: int) -> Select[Any]:
        keys = [Column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
        arguments = (_vector(index, weights), cast(count, Integer))
        found = routine(index, "best_sparse", *arguments).table_valued(
            *keys, Column("distance", Float(53)), name="best"
        )
        return select(found).order_by(found.c.distance, *(found.c[name] for name in index.key_names)).limit(count)

    if where is None:
        return best(candidates)
    told = compared(index, weights, candidates=candidates, where=where)
    return full(index, "sparse", best, told, candidates, where)


def compared(
    index: SearchIndex,
    weights: Mapping[int, float],
    *,
    candidates: int,
    where: ColumnElement[bool] | None = None,
) -> Select[Any]:
    """Return the same by comparing all chunks of the documents that pass."""
    chunks = index.chunks
    distance = chunks.c.sparse.max_inner_product(_vector(index, weights))
    keys = index.key_columns(chunks)
    best = func.min(distance).label("distance")
    leg = select(*keys, best).where(distance < 0)
    if where is None:
        leg = leg.where(of_model(index, chunks))
    else:
        leg = leg.join(index.table, index.same_row(chunks)).where(where)
    return leg.group_by(*keys).order_by(best, *keys).limit(candidates)


def _vector(index: SearchIndex, weights: Mapping[int, float]) -> ColumnElement[Any]:
    kind = SPARSEVEC(index.encoder.sparse_dimensions)
    return cast(literal(sparse_vector(index, weights), kind), kind)
