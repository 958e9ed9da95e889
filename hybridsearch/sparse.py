"""The sparse leg: the encoder's own term weights, by exact inner product over the chunks.

sparse(index, {17: 0.21, 902: 0.08}, candidates=100)     # Select(article_id, distance)
"""

from collections.abc import Mapping
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import ColumnElement, Select, func, select, type_coerce

from hybridsearch.conditions import of_model
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
    chunks = index.chunks
    vector = type_coerce(sparse_vector(index, weights), SPARSEVEC(index.encoder.sparse_dimensions))
    distance = chunks.c.sparse.max_inner_product(vector)
    keys = index.key_columns(chunks)
    best = func.min(distance).label("distance")
    leg = select(*keys, best).where(distance < 0)
    if where is None:
        leg = leg.where(of_model(index, chunks))
    else:
        leg = leg.join(index.table, index.same_row(chunks)).where(where)
    return leg.group_by(*keys).order_by(best, *keys).limit(candidates)
