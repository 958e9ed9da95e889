"""Join ranked lists into one. Takes a mapping of legs and knows none of them.

    legs = {"dense": Select(key, distance), "lexical": Select(key, distance)}
    fuse(legs, keys=["article_id"])                         # reciprocal ranks
    fuse(legs, keys=["article_id"], fusion="minmax")        # a convex sum of the legs' own scores
    fuse({"lexical": ...}, keys=["article_id"], fusion="leg")

A leg is a Select of the key columns and `distance` (lower is nearer), one row a document. The result is a Select of
the keys, `score` (higher is better), and for every leg `rank_<leg>` from 1, `distance_<leg>` and `share_<leg>`, what
the leg gave to the score; these are null where the leg does not have the document, which then adds nothing. Best
first, ties broken by key.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import Any, Literal, get_args

from sqlalchemy import CTE, ColumnElement, Integer, Select, cast, func, literal, null, select, union_all

from hybridsearch.constant import DOUBLE, constant
from hybridsearch.errors import QueryError

LEAST, MOST = 1e-9, 1e9  # of weights and k: far from where a float8 overflows or becomes 0
Fusion = Literal["rrf", "minmax", "zscore", "leg"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
# From a leg and its weight to the share in the score that each of its documents gets.
Share = Callable[[CTE, ColumnElement[int], ColumnElement[float]], ColumnElement[float]]


def fuse(
    legs: Mapping[str, Select[Any]],
    *,
    keys: Sequence[str],
    fusion: Fusion = "rrf",
    k: float = 60.0,
    weights: Mapping[str, float] | None = None,
) -> Select[Any]:
    """Fuse in one of four ways; `weights` by leg, from 0, each 1 where none is given.

    rrf     sum of weight / (k + rank). Cormack, Clarke and Büttcher, SIGIR 2009
    minmax  convex sum (the weights are made to add up to 1) of scores from 0, the leg's last, to 1, its first; 1 for
            the documents of a leg that are all equally near. Bruch, Gai and Ingber, arXiv 2210.11934
    zscore  the same of scores from 0, three standard deviations below the leg's mean, to 1, three above it (beyond
            those: not below 0, but above 1); 0.5 where all are equally near. Known as distribution-based score fusion
    leg     the one leg that is given: its score is the negated distance; `weights` are not used

    Raises QueryError for no legs, an unknown way or leg, weights below 0, not finite or all 0, and k below 0.
    """
    if not legs:
        raise QueryError("no leg to fuse: give at least one of the index's legs")
    check_fusion(fusion, k)
    weights = checked_weights(legs, weights)
    if fusion == "leg" and len(legs) > 1:
        raise QueryError(f'fusion "leg" takes one leg, there are {", ".join(legs)}: name one, or fuse in another way')
    whole = 1.0 if fusion == "rrf" else sum(weights.values())
    share = partial(_reciprocal, k) if fusion == "rrf" else _SHARES[fusion]
    return _fused(legs, keys, share, {name: weights[name] / whole for name in legs})


def rrf(
    legs: Mapping[str, Select[Any]], *, keys: Sequence[str], k: float = 60.0, weights: Mapping[str, float] | None = None
) -> Select[Any]:
    """Fuse by reciprocal rank: as `fuse`."""
    return fuse(legs, keys=keys, fusion="rrf", k=k, weights=weights)


def rank_name(leg: str) -> str:
    """Return the name of the column that holds a leg's ranks."""
    return f"rank_{leg}"


def distance_name(leg: str) -> str:
    """Return the name of the column that holds a leg's distances."""
    return f"distance_{leg}"


def share_name(leg: str) -> str:
    """Return the name of the column that holds what a leg gave to the score."""
    return f"share_{leg}"


def check_fusion(fusion: Any, k: Any) -> None:
    """Raise QueryError for an unknown way to fuse, and for a k that is not a number from 0 up."""
    if fusion not in FUSIONS:
        raise QueryError(f"fusion is {fusion!r}: give {', '.join(FUSIONS)}")
    if not is_number(k) or not 0 <= k <= MOST:
        raise QueryError(f"k is {k!r}: give a number from 0 up, to {MOST:,.0f}")


def checked_weights(legs: Mapping[str, Any], weights: Any) -> Mapping[str, float]:
    """Return a weight for every leg, 1 where none is given; raise QueryError for unusable ones."""
    if weights is not None and not isinstance(weights, Mapping):
        raise QueryError(f"weights is {weights!r}: give a mapping of legs to numbers")
    given = dict.fromkeys(legs, 1.0) | dict(weights or {})
    for name, weight in given.items():
        if name not in legs:
            raise QueryError(f"weight for an unknown leg {name!r}: the legs are {', '.join(legs)}")
        check_weight(weight, f"leg {name!r}")
    if not any(given.values()):
        raise QueryError("all weights are 0: nothing would be ranked")
    return given


def check_weight(weight: Any, whose: str) -> None:
    """Raise QueryError for a weight that is neither 0 nor a number of a usual size."""
    if not is_number(weight) or not (weight == 0 or LEAST <= weight <= MOST):
        raise QueryError(f"weight {weight!r} of {whose}: give a number from 0 up, 0 or {LEAST} to {MOST:,.0f}")


def is_number(value: Any) -> bool:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fused(
    legs: Mapping[str, Select[Any]], keys: Sequence[str], share: Share, weights: Mapping[str, float]
) -> Select[Any]:
    entries = union_all(*(_entries(legs, name, keys, share, weights[name]) for name in legs)).cte("entry")
    columns = [entries.c[key] for key in keys]
    shares = {name: func.max(entries.c[share_name(name)]) for name in legs}
    # The legs' shares are added in one fixed order, so that equal ranks give equal sums to the last bit.
    score: ColumnElement[float] = reduce(add, (func.coalesce(part, constant(0.0)) for part in shares.values()))
    return (
        select(
            *columns,
            score.label("score"),
            *(func.max(entries.c[rank_name(name)]).label(rank_name(name)) for name in legs),
            *(func.max(entries.c[distance_name(name)]).label(distance_name(name)) for name in legs),
            *(part.label(share_name(name)) for name, part in shares.items()),
        )
        .group_by(*columns)
        .order_by(score.desc(), *columns)
    )


def _entries(
    legs: Mapping[str, Select[Any]], name: str, keys: Sequence[str], share: Share, weight: float
) -> Select[Any]:
    """The keys of one leg with what it says of them, and nulls in the columns of the other legs."""
    leg = legs[name].cte(name)
    columns = [leg.c[key] for key in keys]
    rank = func.row_number().over(order_by=(leg.c.distance, *columns))
    said: list[tuple[Callable[[str], str], Any, ColumnElement[Any]]] = [
        (rank_name, Integer, rank),
        (distance_name, DOUBLE, cast(leg.c.distance, DOUBLE)),
        (share_name, DOUBLE, share(leg, rank, literal(float(weight), DOUBLE))),
    ]
    return select(
        *columns,
        *(
            (value if other == name else cast(null(), type_)).label(column_name(other))
            for column_name, type_, value in said
            for other in legs
        ),
    )


def _reciprocal(k: float, leg: CTE, rank: ColumnElement[int], weight: ColumnElement[float]) -> ColumnElement[float]:
    return weight / (literal(float(k), DOUBLE) + cast(rank, DOUBLE))


def _min_max(leg: CTE, rank: ColumnElement[int], weight: ColumnElement[float]) -> ColumnElement[float]:
    last, first = func.max(leg.c.distance).over(), func.min(leg.c.distance).over()
    return weight * func.coalesce((last - leg.c.distance) / func.nullif(last - first, 0.0), 1.0)


def _z_score(leg: CTE, rank: ColumnElement[int], weight: ColumnElement[float]) -> ColumnElement[float]:
    mean, spread = func.avg(leg.c.distance).over(), func.nullif(func.stddev_samp(leg.c.distance).over(), 0.0)
    return weight * func.greatest(func.coalesce((mean - leg.c.distance) / (6.0 * spread) + 0.5, 0.5), 0.0)


def _own(leg: CTE, rank: ColumnElement[int], weight: ColumnElement[float]) -> ColumnElement[float]:
    return -cast(leg.c.distance, DOUBLE)


_SHARES: Mapping[str, Share] = {"minmax": _min_max, "zscore": _z_score, "leg": _own}
