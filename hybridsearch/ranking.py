"""Build the one statement of a search: the legs, and their fusion. Pure: no I/O.

statement = ranking(index, Query("red chair", vector), plan(index, settings, {"limit": 10}))
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, not_, or_, select, union_all

from hybridsearch.boost import boosted
from hybridsearch.conditions import of_model
from hybridsearch.dense import dense, few_passing
from hybridsearch.engines import engine_of
from hybridsearch.errors import QueryError
from hybridsearch.fusion import fuse
from hybridsearch.model import SearchIndex
from hybridsearch.narrowing import narrowed
from hybridsearch.options import MAX_COUNT, Plan
from hybridsearch.query import Query
from hybridsearch.sparse import sparse

# Of the best of all, so many times the candidates are looked at for those that pass a filter.
WIDE = 5


def ranking(index: SearchIndex, query: Query, plan: Plan) -> Select[Any]:
    """Return a Select of the fused ranking, best first, without a limit.

    Its columns are the keys, `score`, what each leg says (`hybridsearch.fusion`), and what each boost does
    (`hybridsearch.boost`).
    """
    return fused(index, legs(index, query, plan), plan)


def fused(index: SearchIndex, chosen: Mapping[str, Select[Any]], plan: Plan) -> Select[Any]:
    """Return the fusion of some legs, by the plan."""
    weights = {name: plan.weights[name] for name in chosen}
    joined = fuse(chosen, keys=index.key_names, fusion=plan.fusion, k=plan.rrf_k, weights=weights)
    return boosted(index, joined, plan.boosts)


def legs(index: SearchIndex, query: Query, plan: Plan) -> dict[str, Select[Any]]:
    """Return the legs of the plan by name, each a Select of the key columns and `distance`, one row a document.

    Without a choice in the plan, those that the query has something for. Raises QueryError where it has nothing for a
    leg that was asked for.
    """
    names = leg_names(index, query, plan)
    plan = within(index, query, plan)
    return {name: _leg(index, name, query, plan) for name in names}


def within(index: SearchIndex, query: Query, plan: Plan) -> Plan:
    """Return the plan with the query's phrases and exclusions among its conditions."""
    condition = narrowed(index, query.parsed)
    if condition is None:
        return plan
    return replace(plan, where=condition if plan.where is None else and_(plan.where, condition))


def leg_names(index: SearchIndex, query: Query, plan: Plan) -> tuple[str, ...]:
    """Return the names of the legs that are searched."""
    if plan.legs is None:
        names = tuple(name for name in index.legs if query.has(name))
        if not names:
            raise QueryError(f'index "{index.name}" has no leg for this query: its legs are {", ".join(index.legs)}')
        return names
    for name in plan.legs:
        if not query.has(name):
            raise QueryError(f"the query has nothing for leg {name!r}: give it, or leave the leg out")
    return plan.legs


def _leg(index: SearchIndex, name: str, query: Query, plan: Plan) -> Select[Any]:
    count, where = plan.candidates, plan.where
    if name == "dense":
        return dense(index, query.vector, candidates=count, ef_search=plan.ef_search, where=where)
    if name == "sparse":
        return sparse(index, query.sparse or {}, candidates=count, where=where)
    return _lexical(index, query, count, where)


def _lexical(index: SearchIndex, query: Query, count: int, where: ColumnElement[bool] | None) -> Select[Any]:
    """The lexical leg. Under a filter that keeps much the best of all are looked at first: where enough of them pass,
    these are the best of those that pass, and the engine need not be told which do.
    """

    def leg(candidates: int, where: ColumnElement[bool] | None) -> Select[Any]:
        words, prefixes = query.text or "", query.prefixes
        return engine_of(index).leg(
            index, words, candidates=candidates, where=where, prefixes=prefixes, read=query.read
        )

    if where is None or index.engine != "sql":
        return leg(count, where)
    wide = min(MAX_COUNT, WIDE * count)
    _, few = few_passing(index, count, where, "lexical")
    best = select(leg(wide, None).subquery("unfiltered")).where(not_(few)).cte("best_of_all")
    passing = select(best).where(of_model(index, best, where)).cte("best_passing")
    found, looked_at = (select(func.count()).select_from(one).scalar_subquery() for one in (passing, best))
    missing = or_(few, and_(found < count, looked_at >= wide))
    told = select(leg(count, where).subquery("told")).where(missing)
    every = union_all(select(passing).where(not_(missing)), told).subquery("words")
    keys = [every.c[name] for name in index.key_names]
    return select(*keys, every.c.distance).order_by(every.c.distance, *keys).limit(count)
