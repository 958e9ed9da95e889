"""Count documents by what they have in common: values of a column or of a JSONB key, ranges of numbers and dates.

by = {"colour": Facet(Article.properties["colour"]), "price": Facet(Article.price, ranges=[(None, 10), (10, None)])}
counts = facets(session, index, query, plan, by, over="fused")
counts["colour"]        # [Count("red", 12), Count("blue", 7)]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from math import isfinite
from typing import Any, Literal, get_args

from sqlalchemy import (
    CTE,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Numeric,
    Select,
    String,
    and_,
    func,
    literal,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB, array
from sqlalchemy.orm import Session

from hybridsearch.conditions import expression
from hybridsearch.errors import QueryError
from hybridsearch.lexical import array_of, asked, changes, rows_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan, checked_count
from hybridsearch.query import Query
from hybridsearch.ranking import ranking, within

Over = Literal["fused", "matches"]
MOST_RANGES = 100
LARGEST = 1e300  # of the numbers that a range may end at


@dataclass(frozen=True)
class Facet:
    """What to count by: the `limit` most frequent values of an expression on the model, or all of its `ranges`.

    A range is (from, to): from is in it, to is not, None leaves the end open. A document counts in each that it is in.
    """

    expression: Any
    limit: int = 10
    ranges: Sequence[tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class Count:
    """A value, as JSON has it, or a range, and how many documents have it; the value None for those that have none."""

    value: Any
    count: int


def checked_facets(index: SearchIndex, by: Any, over: Any) -> Mapping[str, Facet]:
    """Return facets by name; raise QueryError for what cannot be counted by."""
    if over not in get_args(Over):
        raise QueryError(f"over is {over!r}: give fused or matches")
    if not isinstance(by, Mapping) or not by:
        raise QueryError(f"by is {by!r}: give a mapping of names to expressions on {index.model.__name__}")
    return {_name(name): _facet(index, name, given) for name, given in by.items()}


def facets(
    session: Session, index: SearchIndex, query: Query, plan: Plan, by: Mapping[str, Facet], over: Over
) -> dict[str, list[Count]]:
    """Return the counts of every facet, most frequent first, ranges in their order.

    Over "fused" the documents are those that the legs found, over "matches" all that the lexical leg would find without
    the bound of its candidates (all that pass the filter, for a query without words).
    """
    counted = _fused(index, query, plan) if over == "fused" else _matches(index, query, plan)
    found = counted.cte("counted")
    parts = [_counts(index, found, number, facet) for number, facet in enumerate(by.values())]
    counts: list[list[Count]] = [[] for _ in by]
    for number, value, count in session.execute(union_all(*parts)):
        counts[number].append(Count(value, count))
    return {name: _in_order(facet, entries) for (name, facet), entries in zip(by.items(), counts, strict=True)}


def _fused(index: SearchIndex, query: Query, plan: Plan) -> Select[Any]:
    ranked = ranking(index, query, replace(plan, boosts={})).order_by(None).subquery("ranked")
    return select(*(ranked.c[name] for name in index.key_names))


def _matches(index: SearchIndex, query: Query, plan: Plan) -> Select[Any]:
    matches = rows_of(index, within(index, query, plan).where)
    if query.text is None:
        return matches
    having = _having(index, query.text, query.prefixes).subquery("having")
    return matches.join(having, index.same_row(having))


def _having(index: SearchIndex, words: str, prefixes: Sequence[str]) -> Select[Any]:
    """The keys of the documents that have a term of the query; of rows that are not indexed yet, as they are now."""
    if index.engine != "sql":
        raise QueryError(f'facets over all matches need the lexical engine "sql": index "{index.name}" has another')
    wanted = asked(index, words, prefixes).cte("wanted")
    changed = select(*changes(index).c).cte("changed").prefix_with("materialized")
    documents, terms = index.documents, index.terms
    numbers = select(array_of(terms.c.id)).join_from(wanted, terms, terms.c.term == wanted.c.term).scalar_subquery()
    asked_words = select(func.array_agg(wanted.c.term)).scalar_subquery()
    keys, live = index.key_columns(documents), [changed.c[name] for name in index.key_names]
    is_stale = select(literal(1)).where(*(key == now for key, now in zip(keys, live, strict=True))).exists()
    indexed = select(*keys).where(documents.c.terms.overlap(numbers), ~is_stale)
    return select(union_all(indexed, select(*live).where(changed.c.words.overlap(asked_words))).subquery("matching"))


def _counts(index: SearchIndex, found: CTE, number: int, facet: Facet) -> Select[Any]:
    """(facet, value, count), where of a range the value is its place, from 1."""
    rows = found.join(index.model, index.same_row(found))
    made = _of_values(rows, facet) if facet.ranges is None else _of_ranges(rows, facet.expression, facet.ranges)
    return select(literal(number, Integer).label("facet"), made.c.value, made.c.count)


def _of_values(rows: Any, facet: Facet) -> Any:
    shown, count = func.to_jsonb(facet.expression, type_=JSONB).label("value"), func.count().label("count")
    counts = select(shown, count).select_from(rows).group_by(shown).order_by(count.desc(), shown)
    return counts.limit(facet.limit).subquery()


def _of_ranges(rows: Any, value: ColumnElement[Any], ranges: Sequence[tuple[Any, Any]]) -> Any:
    counts = [func.count().filter(_is_within(value, *range_)) for range_ in ranges]
    every = select(array(counts).label("counts")).select_from(rows).subquery()
    each = func.unnest(every.c.counts).table_valued("count", with_ordinality="place").render_derived("each")
    place = func.to_jsonb(each.c.place, type_=JSONB).label("value")
    return select(place, each.c.count).join_from(every, each, true()).subquery()


def _is_within(value: ColumnElement[Any], low: Any, high: Any) -> ColumnElement[bool]:
    ends = [] if low is None else [value >= _bound(low)]
    ends += [] if high is None else [value < _bound(high)]
    return and_(value.is_not(None), *ends)


def _in_order(facet: Facet, counts: list[Count]) -> list[Count]:
    if facet.ranges is None:
        return sorted(counts, key=lambda one: -one.count)
    found = {one.value: one.count for one in counts}
    return [Count(tuple(range_), found[place]) for place, range_ in enumerate(facet.ranges, 1)]


def _facet(index: SearchIndex, name: str, given: Any) -> Facet:
    facet = given if isinstance(given, Facet) else Facet(given)
    checked_count(f"limit of facet {name!r}", facet.limit)
    made = replace(facet, expression=expression(index, f"facet {name!r}", facet.expression))
    if facet.ranges is None:
        return made
    ranges = list(facet.ranges) if isinstance(facet.ranges, Sequence) and not isinstance(facet.ranges, str) else []
    if not 1 <= len(ranges) <= MOST_RANGES or any(not isinstance(one, tuple) or len(one) != 2 for one in ranges):
        raise QueryError(f"ranges of facet {name!r}: give 1 to {MOST_RANGES} pairs (from, to)")
    for bound in (bound for range_ in ranges for bound in range_ if bound is not None):
        if not _fits(made.expression, bound):
            raise QueryError(f"ranges of facet {name!r}: {bound!r} cannot be compared with a {made.expression.type}")
    return replace(made, ranges=ranges)


def _fits(expression: ColumnElement[Any], bound: Any) -> bool:
    """Whether an expression can be compared with a bound."""
    if isinstance(expression.type, DateTime | Date):
        return isinstance(bound, date)
    if isinstance(expression.type, String):
        return isinstance(bound, str) and bound.isprintable()
    if not isinstance(bound, int | float | Decimal) or isinstance(bound, bool):
        return False
    return abs(bound) <= LARGEST if isinstance(bound, int) else isfinite(bound)


def _bound(bound: Any) -> ColumnElement[Any]:
    # A number of any size, whatever the column can hold.
    return literal(bound, Numeric() if isinstance(bound, int | float | Decimal) else None)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise QueryError(f"a facet is called {name!r}: give a name")
    return name
