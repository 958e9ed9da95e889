"""The dense leg: nearest chunks by cosine distance through the HNSW index, one row a document.

dense(index, vector, candidates=100, ef_search=100)     # Select(article_id, distance)
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select, String, case, func, literal, select, type_coerce

from hybridsearch.model import SearchIndex

MAX_EF_SEARCH = 1000
OVERSAMPLING = 4  # candidates by their bits for one by its vector: docs/encoders.md has the recall


def dense(
    index: SearchIndex,
    vector: npt.NDArray[np.float32],
    *,
    candidates: int,
    ef_search: int,
    where: ColumnElement[bool] | None = None,
) -> Select[Any]:
    """Return documents by the cosine distance of their nearest chunk: keys and `distance`, nearest first.

    `vector` has shape (dimensions of the storage,). At most `candidates` chunks are found, so a document with several
    chunks among them leaves fewer documents. Ties are broken by key. With `where`, a condition on the model, the HNSW
    scan goes on until enough chunks pass (pgvector 0.8 or later; before it, a filter can leave too few).
    """
    chunks, storage = index.chunks, index.storage
    distance = distance_to(index, vector)
    approximate, scanned = distance, candidates
    if storage.bits is not None:
        approximate = chunks.c.bits.hamming_distance(type_coerce(storage.quantise(vector), storage.bits))
        scanned = min(MAX_EF_SEARCH, OVERSAMPLING * candidates)
    # A materialized CTE with a bare ORDER BY distance LIMIT n: joins around it cannot push the planner off the index.
    nearest = select(chunks.c.id, *index.key_columns(chunks), distance.label("distance")).where(
        *_scan_settings(scanned, ef_search, where)
    )
    if where is not None:
        nearest = nearest.join(index.table, index.same_row(chunks)).where(where)
    found = nearest.order_by(approximate).limit(scanned).cte("nearest").prefix_with("materialized")
    keys = [found.c[name] for name in index.key_names]
    best = func.min(found.c.distance).label("distance")
    leg = select(*keys, best).group_by(*keys).order_by(best, *keys)
    return leg if scanned == candidates else leg.limit(candidates)


def distance_to(index: SearchIndex, vector: npt.NDArray[np.float32]) -> ColumnElement[float]:
    """Return the cosine distance of a chunk to a vector of shape (dimensions,), as an expression."""
    return cast(ColumnElement[float], index.chunks.c.dense.cosine_distance(type_coerce(vector, index.storage.type)))


def _scan_settings(candidates: int, ef_search: int, where: ColumnElement[bool] | None) -> list[ColumnElement[bool]]:
    """Conditions that are always true, and set the scan's size for this transaction before the scan starts.

    An uncorrelated subquery is a one-time filter above the scan: the executor decides it before it asks the index for
    a row. So the statement carries its own settings, works in autocommit, and leaks nothing to a pool.
    """
    settings = [_set("hnsw.ef_search", str(min(MAX_EF_SEARCH, max(ef_search, candidates))))]
    if where is not None:
        settings.append(_set("hnsw.iterative_scan", "strict_order"))
    return [select(setting).scalar_subquery().is_distinct_from(None) for setting in settings]


def _set(name: str, value: str) -> ColumnElement[str]:
    # A setting this pgvector does not know (iterative_scan before 0.8) is left alone.
    known = func.current_setting(name, True).is_not(None)
    return case((known, func.set_config(name, value, True)), else_=literal("", String))
