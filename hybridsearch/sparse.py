"""The sparse leg: the encoder's own term weights, by exact inner product with the chunks.

    sparse(index, {17: 0.21, 902: 0.08}, candidates=100)        # Select(article_id, distance)

A function of the index's own finds the best without comparing all: docs/sparse-engine.md says how it works.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import CTE, Column, ColumnElement, Float, Integer, Select, cast, literal, not_, select, union_all

from hybridsearch import filtering
from hybridsearch.filtering import ALWAYS, Passing, full, passing_of
from hybridsearch.lexical import routine
from hybridsearch.model import SearchIndex
from hybridsearch.sparse_vector import sparse_vector

Condition = ColumnElement[bool]


def sparse(
    index: SearchIndex,
    weights: Mapping[int, float],
    *,
    candidates: int,
    where: Condition | None = None,
    passing: Passing | None = None,
) -> Select[Any]:
    """Return the best documents by the inner product of their best chunk: keys and `distance`, the negated product.

    `weights` maps token ids (0-based) to weights. A chunk that shares no token with the query is no candidate. Ties are
    broken by key. With `where`, a condition on the model, only documents of which it holds; `passing` is what
    `passing_of` gives for it, where a statement has it already.
    """
    if where is None:
        return _best(index, weights, candidates)
    passing = passing or passing_of(index, candidates, where)
    told = union_all(
        select(_compared(index, weights, passing.few, passing.keys, None).limit(candidates).subquery()),
        select(_compared(index, weights, not_(passing.few), None, where).limit(candidates).subquery()),
    ).subquery("sparse_compared")
    return full(index, "sparse", partial(_best, index, weights), select(told), candidates, passing)


def compared(
    index: SearchIndex, weights: Mapping[int, float], *, candidates: int, where: Condition | None = None
) -> Select[Any]:
    """Return the same by comparing all chunks of the documents that pass."""
    return _compared(index, weights, ALWAYS, None, where).limit(candidates)


def _best(index: SearchIndex, weights: Mapping[int, float], count: int | ColumnElement[int]) -> Select[Any]:
    keys = [Column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    arguments = (_vector(index, weights), cast(count, Integer))
    found = routine(index, "best_sparse", *arguments).table_valued(*keys, Column("distance", Float(53)), name="best")
    return select(found).order_by(found.c.distance, *(found.c[name] for name in index.key_names)).limit(count)


def _compared(
    index: SearchIndex, weights: Mapping[int, float], gate: Condition, keys: CTE | None, where: Condition | None
) -> Select[Any]:
    product = index.chunks.c.sparse.max_inner_product(_vector(index, weights))
    every = filtering.compared(index, product, gate, keys, where)
    return every.having(every.selected_columns.distance < 0)


def _vector(index: SearchIndex, weights: Mapping[int, float]) -> ColumnElement[Any]:
    kind = SPARSEVEC(index.encoder.sparse_dimensions)
    return cast(literal(sparse_vector(index, weights), kind), kind)
