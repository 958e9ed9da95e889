"""How a leg is full under a filter: of few rows that pass all are compared; else it looks on, or looks at more.

    passing = passing_of(index, candidates, where)                  # for all legs of a statement
    full(index, "sparse", best, told, candidates, passing)          # Select(article_id, distance)

The statement chooses for itself, as it runs: docs/query.md has the rule, and what was measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Integer,
    Select,
    and_,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)

from hybridsearch.conditions import of_model, restricted
from hybridsearch.constant import constant
from hybridsearch.lexical import array_of, numbers_of, rows_of
from hybridsearch.model import SearchIndex
from hybridsearch.sampling import SAMPLE, share_of, size_of

Condition = ColumnElement[bool]
Number = ColumnElement[Any]
ALWAYS: Condition = literal_column("true")
UNKNOWN: Number = literal_column("null::float8")
ONE_BY_ONE: Number = literal_column("0")  # an OFFSET: rows are looked up, however many the planner expects

# A row that a scan passes by costs about four times a row that is looked up and compared. To meet enough of those that
# pass, a scan passes by candidates / share rows; all that pass are share x chunks. So comparing them is the cheaper way
# while their number, squared, is below 4 x candidates x chunks.
PRICE = 4.0
ALWAYS_FEW = 1000.0

# The best of all that are looked at for those that pass: so many times the candidates where the sample does not tell.
# Each costs about three times what a row does of which only the number is looked up.
WIDE = 5
DEAR = 3.0


@dataclass(frozen=True)
class Passing:
    """The rows of which `where`, a condition on the model, holds; without one, those that row-level security shows.

    `few` is the condition that few rows pass, `keys` these rows' keys, which are all of them where they are few. `wide`
    is how many of the best of all are to be looked at, so that enough of them pass, `widest` how many at most.
    """

    where: Condition | None
    few: Condition
    keys: CTE
    wide: Number
    widest: Number


def passing_of(index: SearchIndex, candidates: int, where: Condition | None) -> Passing:
    """Return what passes a filter. Reads a sample, and no more than few rows."""
    bounds = _bounds(index, candidates, where)
    few, wide, widest = (select(bounds.c[name]).scalar_subquery() for name in ("few", "wide", "widest"))
    keys = rows_of(index, where).limit(select(bounds.c.few + constant(1)).scalar_subquery()).cte("passing")
    counted = select((func.count() <= few).label("few")).select_from(keys).cte("passing_choice")
    return Passing(where, select(counted.c.few).scalar_subquery(), keys, wide, widest)


def _bounds(index: SearchIndex, candidates: int, where: Condition | None) -> CTE:
    """A row: how many rows are `few`, or -1 where they are not counted; how many of the best are `wide`, `widest`."""
    bound = func.greatest(constant(ALWAYS_FEW), func.sqrt(constant(PRICE * candidates) * size_of(index.chunks)))
    if where is None:  # of what row-level security shows nothing is sampled, and no leg looks at more than the best
        counted = case((restricted(index), cast(bound, Integer)), else_=constant(-1))
        return select(counted.label("few"), UNKNOWN.label("wide"), UNKNOWN.label("widest")).cte("passing_bounds")
    share = select(share_of(index, where).c.share).scalar_subquery()
    known = (
        select(share.label("share"), (share * size_of(index.documents)).label("rows"), bound.label("few"))
        .cte("passing_known")
        .prefix_with("materialized")
    )
    few, rows = known.c.few, known.c.rows
    least_share = known.c.share - func.sqrt(known.c.share / constant(float(SAMPLE)))  # by one standard deviation
    wide = func.coalesce(
        constant(_enough(candidates)) / func.greatest(least_share, constant(1e-9)), constant(WIDE * candidates)
    )
    widest = func.coalesce(rows / constant(DEAR), few)
    return select(
        case((func.coalesce(rows <= few, ALWAYS), cast(few, Integer)), else_=constant(-1)).label("few"),
        _count(func.least(wide, few), candidates).label("wide"),
        _count(widest).label("widest"),
    ).cte("passing_bounds")


def _enough(candidates: int) -> float:
    """How many are to pass on average, for there to be so many candidates nearly always."""
    return candidates + 2.0 * math.sqrt(candidates)


def compared(
    index: SearchIndex, distance: ColumnElement[Any], gate: Condition, passing: CTE | None, where: Condition | None
) -> Select[Any]:
    """Return all documents that pass, by the `distance` of their nearest chunk: a gate is decided before any is read.

    Those of `passing`, keys, are looked up one by one; without it, those of which `where` holds are joined.
    """
    chunks = index.chunks
    rows = rows_of(index, where).subquery("passing_row") if passing is None else passing
    same = and_(*(key == rows.c[key.name] for key in index.key_columns(chunks)))
    keys: list[ColumnElement[Any]] = [rows.c[name] for name in index.key_names]
    if passing is None:
        every = select(*keys).join_from(rows, chunks, same)
    else:
        own = select(distance.label("distance")).select_from(chunks).where(same).offset(ONE_BY_ONE)
        piece = own.correlate(passing).lateral("piece")
        distance = piece.c.distance
        every = select(*keys).join_from(passing, piece, ALWAYS)
    nearest = func.min(distance).label("distance")
    return every.add_columns(nearest).where(gate).group_by(*keys).order_by(nearest, *keys)


def numbers(index: SearchIndex, passing: Passing, where: Condition) -> ColumnElement[Any]:
    """Return the numbers of the documents that pass, as an array."""
    documents, keys = index.documents, passing.keys
    same = and_(*(key == keys.c[key.name] for key in index.key_columns(documents)))
    own = select(documents.c.id).where(same).offset(ONE_BY_ONE).correlate(keys).lateral("numbered")
    few = select(array_of(own.c.id)).select_from(keys.join(own, ALWAYS)).scalar_subquery()
    return case((passing.few, few), else_=numbers_of(index, where))


@dataclass(frozen=True)
class _Look:
    """A look at so many of the best of all: those `kept` that pass, and the condition that no more are needed."""

    kept: CTE
    found: Number
    done: Condition


def full(
    index: SearchIndex,
    name: str,
    best: Callable[[Number], Select[Any]],
    told: Select[Any],
    candidates: int,
    passing: Passing,
) -> Select[Any]:
    """Return a leg under a filter: keys and `distance` of its `candidates` best documents that pass.

    `best` makes the leg without the filter, for so many candidates. Where not few rows pass these are looked at first,
    and more of them if fewer passed than was to be expected: if enough of them pass, they are the best of those that
    pass. Else, or where that would be dearer, `told` is run: the leg with the filter.
    """
    first = _look(index, f"{name}_first", best, passing.wide, not_(passing.few), candidates, passing)
    wider = (
        passing.wide
        * constant(_enough(candidates))
        / func.greatest(first.found - func.sqrt(first.found), constant(0.5))
    )
    more = select(case((not_(or_(passing.few, first.done)), _count(wider)))).cte(f"{name}_more")
    width = select(more).scalar_subquery()
    second = _look(
        index, f"{name}_second", best, width, func.coalesce(width <= passing.widest, False), candidates, passing
    )
    every = union_all(
        select(first.kept).where(first.done),
        select(second.kept).where(second.done),
        select(told.subquery(f"{name}_told")).where(not_(or_(first.done, second.done))),
    ).subquery(f"{name}_full")
    keys = [every.c[key] for key in index.key_names]
    return select(*keys, every.c.distance).order_by(every.c.distance, *keys).limit(constant(candidates))


def _look(
    index: SearchIndex,
    name: str,
    best: Callable[[Number], Select[Any]],
    width: Number,
    gate: Condition,
    candidates: int,
    passing: Passing,
) -> _Look:
    every = select(best(width).subquery(f"{name}_best")).where(gate).cte(f"{name}_of_all")
    kept = select(every).where(of_model(index, every, passing.where)).cte(f"{name}_of_passing")
    found, looked_at = (select(func.count()).select_from(one).scalar_subquery() for one in (kept, every))
    return _Look(kept, found, and_(gate, or_(found >= constant(candidates), looked_at < width)))


def _count(number: Number, least: int = 1) -> Number:
    """A number as one of documents."""
    return cast(func.least(func.greatest(number, constant(least)), constant(1e9)), Integer)
