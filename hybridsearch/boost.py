"""Raise documents for what they are, after fusion: how new, how much read, whatever an expression on the model says.

    boosts = {
        "recent": Boost(recency(Article.published, half_life=timedelta(days=30)), weight=0.5),
        "read": Boost(popularity(Article.views, half=1000), weight=0.2),
    }
    search.search(session, "red chair", boosts=boosts)

A boost multiplies the score by 1 + weight · value, so a document of a higher value never falls (a score below 0, which
a single leg may give, is divided). Values below 0, NULL and NaN count as 0, those above a million as a million. There
are at most 16 boosts, whose product is a number at their largest. Only documents that a leg has found are raised.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import reduce
from operator import mul
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, cast, extract, func, literal, select

from hybridsearch.conditions import expression
from hybridsearch.constant import DOUBLE
from hybridsearch.errors import QueryError
from hybridsearch.fusion import check_weight, is_number
from hybridsearch.model import SearchIndex

LARGEST = 1_000_000.0
MOST_BOOSTS = 16  # each up to 1e15: a float8 ends at 1e308
MAX_NAME = 40
HALVINGS = 1000.0  # beyond them a float8 would become 0, which PostgreSQL takes for an error


@dataclass(frozen=True)
class Boost:
    """An expression on the model, and how much it matters: a value of 1 raises a score by `weight`, 0.5 by half."""

    expression: Any
    weight: float = 1.0


def recency(column: Any, *, half_life: timedelta) -> ColumnElement[float]:
    """Return 1 for now and the future, a half for what is a half-life old, a quarter for twice that; for a Boost.

    `column` is a date or a timestamp.
    """
    seconds = half_life.total_seconds() if isinstance(half_life, timedelta) else 0.0
    if seconds <= 0:
        raise QueryError(f"half_life is {half_life!r}: give a timedelta above 0")
    age = func.greatest(cast(extract("epoch", func.now() - column), DOUBLE), 0.0)
    halvings = func.least(age / literal(seconds, DOUBLE), HALVINGS)
    fresh = func.power(literal(0.5, DOUBLE), halvings, type_=DOUBLE)
    return case((func.isfinite(column), fresh))


def popularity(column: Any, *, half: float) -> ColumnElement[float]:
    """Return 0 for nothing, a half for `half`, and ever nearer to 1: column / (column + half); for a Boost.

    What is below 0, NULL or NaN is nothing.
    """
    if not is_number(half) or not 0 < half <= LARGEST:
        raise QueryError(f"half is {half!r}: give a number above 0, to {LARGEST:,.0f}")
    count = _number(cast(column, DOUBLE), 1e15)
    return count / (count + literal(float(half), DOUBLE))


def boost_name(name: str) -> str:
    """Return the name of the column that holds the factors of a boost."""
    return f"boost_{name}"


def checked_boosts(index: SearchIndex, boosts: Any) -> Mapping[str, Boost]:
    """Return boosts by name; raise QueryError for what cannot raise a document."""
    if boosts is None:
        return {}
    if not isinstance(boosts, Mapping):
        raise QueryError(f"boosts is {boosts!r}: give a mapping of names to Boost(expression, weight)")
    if len(boosts) > MOST_BOOSTS:
        raise QueryError(f"there are {len(boosts)} boosts: give at most {MOST_BOOSTS}")
    return {_name(name): _boost(index, name, boost) for name, boost in boosts.items()}


def boosted(index: SearchIndex, ranking: Select[Any], boosts: Mapping[str, Boost]) -> Select[Any]:
    """Return the ranking with its scores raised: `fused` is what they were, `boost_<name>` the factor of each boost."""
    if not boosts:
        return ranking
    fused = ranking.order_by(None).cte("fused")
    factors = {boost_name(name): _factor(boost) for name, boost in boosts.items()}
    kept = [column for column in fused.c if column.name != "score"]
    raised = (
        select(*kept, fused.c.score.label("fused"), *(factor.label(name) for name, factor in factors.items()))
        .join_from(fused, index.model, index.same_row(fused))
        .cte("raised")
    )
    factor = reduce(mul, (raised.c[name] for name in factors))
    score = case((raised.c.fused < 0, raised.c.fused / factor), else_=raised.c.fused * factor).label("score")
    keys = [raised.c[name] for name in index.key_names]
    rest = [column for column in raised.c if column.name not in index.key_names]
    return select(*keys, score, *rest).order_by(score.desc(), *keys)


def _factor(boost: Boost) -> ColumnElement[float]:
    return 1.0 + literal(float(boost.weight), DOUBLE) * _number(cast(boost.expression, DOUBLE), LARGEST)


def _number(value: ColumnElement[float], most: float) -> ColumnElement[float]:
    """A value from 0 to so much; 0 for NULL and NaN."""
    # NaN is above every number in PostgreSQL.
    usual = and_(value > 0.0, value <= literal(float("inf"), DOUBLE))
    return case((usual, func.least(value, most)), else_=0.0)


def _boost(index: SearchIndex, name: str, given: Any) -> Boost:
    boost = given if isinstance(given, Boost) else Boost(given)
    check_weight(boost.weight, f"boost {name!r}")
    return replace(boost, expression=expression(index, f"boost {name!r}", boost.expression))


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier() or len(name.encode()) > MAX_NAME:
        raise QueryError(f"a boost is called {name!r}: give an identifier of at most {MAX_NAME} bytes")
    return name
