"""Join ranked lists into one. Takes a mapping of legs and knows none of them.

    rrf({"dense": Select(key, distance), "lexical": Select(key, distance)}, keys=["article_id"])

A leg is a Select of the key columns and `distance` (lower is nearer), one row a document.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, Select, cast, func, literal, null, select, union_all

from hybridsearch.errors import QueryError

DOUBLE = Float(53)


def rrf(
    legs: Mapping[str, Select[Any]],
    *,
    keys: Sequence[str],
    k: float = 60.0,
    weights: Mapping[str, float] | None = None,
) -> Select[Any]:
    """Fuse by reciprocal rank: score = sum over the legs of weight / (k + rank), rank counted from 1.

    Returns a Select of the keys, `score` (higher is better) and `rank_<leg>` for every leg, null where the leg does not
    have the document; best first, ties broken by key. A leg that lacks a document adds nothing. Cormack, Clarke and
    Büttcher, SIGIR 2009.
    """
    if not legs:
        raise QueryError("no leg to fuse: give at least one of the index's legs")
    if not 0 <= k < float("inf"):
        raise QueryError(f"k is {k}: give a number from 0 up")
    weights = checked_weights(legs, weights)
    entries = union_all(*(_ranked(legs, name, keys) for name in legs)).cte("entry")
    columns = [entries.c[key] for key in keys]
    ranks = {name: func.max(entries.c[rank_name(name)]) for name in legs}
    # The legs' shares are added in one fixed order, so that equal ranks give equal sums to the last bit.
    score: ColumnElement[float] = reduce(
        add,
        (func.coalesce(weights[name] / (literal(k, DOUBLE) + cast(rank, DOUBLE)), 0.0) for name, rank in ranks.items()),
    )
    return (
        select(*columns, score.label("score"), *(rank.label(rank_name(name)) for name, rank in ranks.items()))
        .group_by(*columns)
        .order_by(score.desc(), *columns)
    )


def rank_name(leg: str) -> str:
    """Return the name of the column that holds a leg's ranks."""
    return f"rank_{leg}"


def checked_weights(legs: Mapping[str, Any], weights: Mapping[str, float] | None) -> Mapping[str, float]:
    """Return a weight for every leg, 1 where none is given; raise QueryError for unusable ones."""
    given = dict.fromkeys(legs, 1.0) | dict(weights or {})
    for name, weight in given.items():
        if name not in legs:
            raise QueryError(f"weight for an unknown leg {name!r}: the legs are {', '.join(legs)}")
        if not 0 <= weight < float("inf"):
            raise QueryError(f"weight {weight} of leg {name!r}: give a number from 0 up")
    if not any(given.values()):
        raise QueryError("all weights are 0: nothing would be ranked")
    return given


def _ranked(legs: Mapping[str, Select[Any]], name: str, keys: Sequence[str]) -> Select[Any]:
    """The keys of one leg with its ranks, and nulls in the columns of the other legs."""
    leg = legs[name].cte(name)
    columns = [leg.c[key] for key in keys]
    rank = func.row_number().over(order_by=(leg.c.distance, *columns))
    return select(
        *columns, *((rank if other == name else cast(null(), Integer)).label(rank_name(other)) for other in legs)
    )
