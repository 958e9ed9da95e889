"""Build the one statement of a search: the legs, and their fusion. Pure: no I/O.

statement = ranking(index, Query("red chair", vector), plan(index, settings, {"limit": 10}))
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_

from hybridsearch.boost import boosted
from hybridsearch.dense import dense
from hybridsearch.engines import engine_of
from hybridsearch.errors import QueryError
from hybridsearch.filtering import Passing, full, numbers, passing_of
from hybridsearch.fusion import fuse
from hybridsearch.lexical import lexical
from hybridsearch.model import SearchIndex
from hybridsearch.narrowing import narrowed
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.sparse import sparse


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
    passing = passing_of(index, plan.candidates, plan.where)
    return {name: _leg(index, name, query, plan, passing) for name in names}


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


def compares(index: SearchIndex, query: Query, plan: Plan) -> bool:
    """Return whether vectors of the query are compared with the index's."""
    return any(name != "lexical" for name in leg_names(index, query, plan))


def _leg(index: SearchIndex, name: str, query: Query, plan: Plan, passing: Passing) -> Select[Any]:
    count, where = plan.candidates, plan.where
    if name == "dense":
        ef_search = plan.ef_search
        return dense(index, query.vector, candidates=count, ef_search=ef_search, where=where, passing=passing)
    if name == "sparse":
        return sparse(index, query.sparse or {}, candidates=count, where=where, passing=passing)
    return _lexical(index, query, count, where, passing)


def _lexical(
    index: SearchIndex, query: Query, count: int, where: ColumnElement[bool] | None, passing: Passing
) -> Select[Any]:
    words, prefixes = query.text or "", query.prefixes
    if where is None or index.engine != "sql":
        engine = engine_of(index)
        return engine.leg(index, words, candidates=count, where=where, prefixes=prefixes, read=query.read)

    def best(candidates: ColumnElement[int]) -> Select[Any]:
        return lexical(index, words, candidates=candidates, prefixes=prefixes)

    allowed = numbers(index, passing, where)
    told = lexical(index, words, candidates=count, where=where, prefixes=prefixes, allowed=allowed)
    return full(index, "lexical", best, told, count, passing)
