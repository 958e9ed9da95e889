"""How it is searched for: what a caller may say, and the plan that is made of it. Pure: no I/O.

options: Options = {"limit": 5, "where": Article.lang == "en"}
plan(index, settings, options).candidates       # 100, the setting
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from sqlalchemy import ColumnElement

from hybridsearch.boost import Boost, checked_boosts
from hybridsearch.conditions import condition
from hybridsearch.errors import QueryError
from hybridsearch.fusion import Fusion, check_fusion, checked_weights
from hybridsearch.model import SearchIndex
from hybridsearch.settings import Settings
from hybridsearch.snippet import Highlight

MAX_DEADLINE = 3600  # seconds
MAX_COUNT = 1000  # of what an HNSW scan returns: the largest hnsw.ef_search
_PART = r'("([^"]|"")+"|[^\s".]+)'
_NAME = re.compile(rf"{_PART}(\.{_PART})?")  # german, public."my own"


class Options(TypedDict, total=False):
    """What a caller may say of a search, each by its name; what is left out comes from the settings."""

    limit: int
    """How many documents are returned, 1 to 1,000; 10 by default."""

    candidates: int
    """How many documents each leg hands to the fusion, 1 to 1,000; at least the limit."""

    where: ColumnElement[bool] | None
    """A condition on the model, which acts inside every leg."""

    legs: Sequence[str] | None
    """The legs that are searched; by default all those of the index that the query has something for."""

    fusion: Fusion
    """How the legs become one list: "rrf" (the default), "minmax", "zscore" or "leg": `hybridsearch.fusion`."""

    config: str | None
    """The text search configuration of the query's words ("german", "de"); by default the index's."""

    weights: Mapping[str, float] | None
    """The weight of each leg, from 0; 1 where none is given."""

    rrf_k: float
    """The constant of reciprocal rank fusion."""

    boosts: Mapping[str, Boost | ColumnElement[Any]] | None
    """What raises documents after fusion, by name: `hybridsearch.boost`."""

    ef_search: int
    """Size of the HNSW scan's candidate list, 1 to 1,000; never less than the candidates."""

    deadline: float | None
    """Seconds that a search may take; what is not there by then is left out, and `degraded` says so."""

    snippet: bool | Highlight
    """Whether each hit gets a snippet of its text, and of which form."""

    suggest: bool | None
    """Whether unknown words are looked for in the dictionary; by default where the words do not fill the limit."""


@dataclass(frozen=True)
class Plan:
    """How it is searched for, checked and complete. `legs` is None where the caller left the choice to the query."""

    limit: int
    candidates: int
    ef_search: int
    fusion: Fusion
    rrf_k: float
    legs: tuple[str, ...] | None
    weights: Mapping[str, float]
    where: ColumnElement[bool] | None
    boosts: Mapping[str, Boost]
    deadline: float | None
    apart: bool
    snippet: Highlight | None
    suggest: bool | None
    config: str | None = None


def plan(index: SearchIndex, settings: Settings, options: Options) -> Plan:
    """Complete the options from the settings; raise QueryError for what cannot be done."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        raise QueryError(f"no option {unknown[0]!r}: the options are {', '.join(Options.__annotations__)}")
    limit = checked_count("limit", options.get("limit", 10))
    candidates = checked_count("candidates", options.get("candidates", settings.candidates))
    fusion, k = options.get("fusion", "rrf"), options.get("rrf_k", settings.rrf_k)
    check_fusion(fusion, k)
    return Plan(
        limit=limit,
        candidates=max(limit, candidates),
        ef_search=checked_count("ef_search", options.get("ef_search", settings.ef_search)),
        fusion=fusion,
        rrf_k=k,
        legs=_legs(index, options.get("legs")),
        weights=checked_weights(dict.fromkeys(index.legs), options.get("weights")),
        where=condition(index, options.get("where")),
        boosts=checked_boosts(index, options.get("boosts")),
        deadline=_deadline(options.get("deadline", settings.deadline)),
        apart=settings.apart,
        snippet=_highlight(options.get("snippet", False)),
        suggest=_choice("suggest", options.get("suggest")),
        config=_config(options.get("config")),
    )


def refuse(method: str, options: Options, *names: str) -> None:
    """Raise QueryError for an option that a method has no use for, unless it asks for nothing."""
    for name in names:
        if options.get(name):
            raise QueryError(f"{method} has no {name}: leave it out")


def checked_count(name: str, count: Any) -> int:
    """Return a number of documents, `limit` or `candidates`; raise QueryError outside 1 to 1,000."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise QueryError(f"{name} is {count!r}: give a whole number")
    if not 1 <= count <= MAX_COUNT:
        raise QueryError(f"{name} is {count:,}: give 1 to {MAX_COUNT:,}")
    return count


def _deadline(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_DEADLINE:
        raise QueryError(f"deadline is {value!r}: give seconds above 0, to {MAX_DEADLINE:,}, or None")
    return float(value)


def _highlight(value: Any) -> Highlight | None:
    if not isinstance(value, bool | Highlight):
        raise QueryError(f"snippet is {value!r}: give True, False or a Highlight")
    return value if isinstance(value, Highlight) else Highlight() if value else None


def _config(name: Any) -> str | None:
    if name is not None and (not isinstance(name, str) or "\0" in name or not _NAME.fullmatch(name.strip())):
        raise QueryError(f"config is {name!r}: give the name of a text search configuration, or a language code")
    return name


def _choice(name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise QueryError(f"{name} is {value!r}: give True or False, or None for the usual")
    return value


def _legs(index: SearchIndex, names: Any) -> tuple[str, ...] | None:
    if names is None:
        return None
    known = ", ".join(index.legs)
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise QueryError(f"legs is {names!r}: give a sequence of {known}")
    for name in names:
        if name not in index.legs:
            raise QueryError(f'index "{index.name}" has no leg {name!r}: its legs are {known}')
    if not names:
        raise QueryError(f"no leg to fuse: give at least one of {known}")
    return tuple(dict.fromkeys(names))
