"""The dense leg: nearest documents by cosine distance, through the HNSW index or, under a selective filter, exactly.

dense(index, vector, candidates=100, ef_search=100)     # Select(article_id, distance)

The statement chooses for itself, as it runs: docs/query.md has the rule, and what was measured.
"""

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    all_,
    and_,
    case,
    func,
    literal,
    literal_column,
    not_,
    select,
    true,
    union_all,
)

from hybridsearch.conditions import of_model
from hybridsearch.constant import constant
from hybridsearch.filtering import Passing, compared, passing_of
from hybridsearch.model import SearchIndex

Vector = npt.NDArray[np.float32]
Condition = ColumnElement[bool]

MAX_EF_SEARCH = 1000
OVERSAMPLING = 4  # candidates by their bits for one by its vector: docs/encoders.md has the recall
SCAN_MEMORY = "4"  # times work_mem, of a scan that goes on


def dense(
    index: SearchIndex,
    vector: Vector,
    *,
    candidates: int,
    ef_search: int,
    where: Condition | None = None,
    passing: Passing | None = None,
) -> Select[Any]:
    """Return the `candidates` nearest documents by the cosine distance of their nearest chunk: keys and `distance`.

    Nearest first, ties broken by key; `vector` has shape (dimensions of the storage,). The scan of the HNSW index
    goes on until it has met so many different documents that the role may see and of which `where`, a condition on
    the model, holds. Where few documents pass, or the scan ends before it has enough, all that pass are compared
    instead. `passing` is what `passing_of` gives for the same, where a statement has it already. (Before pgvector
    0.8 no scan goes on: documents of several chunks, and a filter, can leave too few.)
    """
    distance = distance_to(index, vector)
    passing = passing or passing_of(index, candidates, where)
    met = _met(index, distance, passing.few, candidates, ef_search, where, _bits_distance(index, vector))
    missing = select(func.count()).select_from(met).scalar_subquery() < constant(candidates)
    goes_on = _current("hnsw.iterative_scan").is_not(None)
    near = union_all(
        select(met),
        _best(compared(index, distance, passing.few, passing.keys, None), candidates),
        _best(compared(index, distance, and_(not_(passing.few), missing, goes_on), None, where), candidates),
    ).subquery("near")
    keys = [near.c[name] for name in index.key_names]
    nearest = func.min(near.c.distance).label("distance")
    # A vector of norm 0 has no distance from any other, but NaN, which to PostgreSQL is more than every number.
    leg = select(*keys, nearest).where(near.c.distance <= literal_column("2.5")).group_by(*keys)
    return leg.order_by(nearest, *keys).limit(constant(candidates))


def distance_to(index: SearchIndex, vector: Vector) -> ColumnElement[float]:
    """Return the cosine distance of a chunk to a vector of shape (dimensions,), as an expression."""
    # One value wherever it occurs in the statement: it is sent and read once.
    value = literal(vector, index.storage.written)
    return cast(ColumnElement[float], index.chunks.c.dense.cosine_distance(value))


def _met(
    index: SearchIndex,
    distance: ColumnElement[float],
    few: Condition,
    candidates: int,
    ef_search: int,
    where: Condition | None,
    order: ColumnElement[Any] | None,
) -> CTE:
    """The first documents that the scan of the index meets, unless few pass: keys and `distance`.

    `order` is the distance that the index knows, where that is another one: then more are met, to be ordered anew.
    """
    chunks = index.chunks
    wanted = candidates if order is None else min(MAX_EF_SEARCH, OVERSAMPLING * candidates)
    keys = index.key_columns(chunks)
    key = keys[0] if len(keys) == 1 else func.row(*keys)
    # All the keys before this one. No sort comes in: the scan has this order, and stops with the LIMIT.
    before = func.array_agg(key).over(order_by=distance if order is None else order, rows=(None, -1))
    met = (
        select(*keys, distance.label("distance"), key.label("key"), before.label("before"))
        .where(not_(few), *scan_settings(max(ef_search, wanted)), of_model(index, chunks, where))
        .subquery("met")
    )
    new = met.c.before.is_(None) | (met.c.key != all_(met.c.before))
    names = (*index.key_names, "distance")
    return select(*(met.c[name] for name in names)).where(new).limit(constant(wanted)).cte("nearest")


def _bits_distance(index: SearchIndex, vector: Vector) -> ColumnElement[Any] | None:
    """The distance by bits, where the index is over bits."""
    bits = index.storage.bits
    if bits is None:
        return None
    return cast(ColumnElement[Any], index.chunks.c.bits.hamming_distance(literal(index.storage.quantise(vector), bits)))


def _best(leg: Select[Any], candidates: int) -> Select[Any]:
    return select(leg.limit(constant(candidates)).subquery())


def scan_settings(ef_search: int) -> list[Condition]:
    """Conditions that are always true, and set the scan's size for this transaction before the scan starts.

    An uncorrelated subquery is a one-time filter above the scan: the executor decides it before it asks the index for
    a row. So the statement carries its own settings, works in autocommit, and leaks nothing to a pool.
    """
    settings = [
        _set("hnsw.ef_search", str(min(MAX_EF_SEARCH, ef_search))),
        # In strict order the scan drops what it meets out of order: recall@10 fell to 0.90 under a filter of 1 %.
        _set("hnsw.iterative_scan", "relaxed_order"),
        _set("hnsw.scan_mem_multiplier", SCAN_MEMORY),
    ]
    return [select(setting).scalar_subquery().is_distinct_from(None) for setting in settings]


def _set(name: str, value: str) -> ColumnElement[str]:
    # A setting this pgvector does not know (iterative_scan before 0.8) is left alone.
    known = _current(name).is_not(None)
    return case((known, func.set_config(constant(name), constant(value), true())), else_=constant(""))


def _current(name: str) -> ColumnElement[str]:
    return func.current_setting(constant(name), true())
