"""Build the one statement of a search: legs, fusion, and the checks of what the caller gave. Pure: no I/O.

statement = ranking(index, Query("red chair", vector), limit=10, candidates=100, ...)
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select

from hybridsearch.dense import dense
from hybridsearch.errors import QueryError
from hybridsearch.fusion import rrf
from hybridsearch.lexical import lexical
from hybridsearch.model import SearchIndex
from hybridsearch.sparse import sparse

MAX_COUNT = 1000  # of what an HNSW scan returns: the largest hnsw.ef_search


@dataclass(frozen=True)
class Query:
    """What is searched for: the words, and what the encoder made of them.

    `dense` has shape (dimensions,), `sparse` maps token ids to weights; None leaves the leg out.
    """

    text: str
    dense: npt.NDArray[np.float32] | None = None
    sparse: Mapping[int, float] | None = None


@dataclass(frozen=True)
class Plan:
    """How it is searched for. `weights` by leg; `where` a condition on the model."""

    candidates: int
    ef_search: int
    rrf_k: float
    legs: Sequence[str]
    weights: Mapping[str, float] | None = None
    where: ColumnElement[bool] | None = None


def ranking(index: SearchIndex, query: Query, plan: Plan) -> Select[Any]:
    """Return a Select of the fused ranking: key columns, `score`, `rank_<leg>`; best first, without a limit."""
    return rrf(legs(index, query, plan), keys=index.key_names, k=plan.rrf_k, weights=plan.weights)


def legs(index: SearchIndex, query: Query, plan: Plan) -> dict[str, Select[Any]]:
    """Return the legs that the plan asks for, by name; a leg without its vector is left out."""
    chosen: dict[str, Select[Any]] = {}
    for name in plan.legs:
        if name not in index.legs:
            raise QueryError(f'index "{index.name}" has no leg {name!r}: its legs are {", ".join(index.legs)}')
        if name == "dense" and query.dense is not None:
            chosen[name] = dense(
                index, query.dense, candidates=plan.candidates, ef_search=plan.ef_search, where=plan.where
            )
        elif name == "lexical":
            chosen[name] = lexical(index, query.text, candidates=plan.candidates, where=plan.where)
        elif name == "sparse" and query.sparse is not None:
            chosen[name] = sparse(index, query.sparse, candidates=plan.candidates, where=plan.where)
    return chosen


def checked_text(text: str, max_length: int) -> str:
    """Return the query's text; raise QueryError for one that cannot be searched for."""
    if not isinstance(text, str):
        raise QueryError(f"the query is a {type(text).__name__}: give a string")
    if len(text) > max_length:
        raise QueryError(f"the query has {len(text):,} characters, at most {max_length:,} are allowed: shorten it")
    for place, character in enumerate(text):
        if character == "\0" or unicodedata.category(character) == "Cs":
            what = "a NUL" if character == "\0" else "half a surrogate pair"
            raise QueryError(f"the query holds {what} at position {place}, which no text in PostgreSQL can: remove it")
    if not text.strip():
        raise QueryError("the query is empty: give at least one word")
    return text


def checked_count(name: str, count: int) -> int:
    """Return a number of documents, `limit` or `candidates`; raise QueryError outside 1 to 1,000."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise QueryError(f"{name} is {count!r}: give a whole number")
    if not 1 <= count <= MAX_COUNT:
        raise QueryError(f"{name} is {count:,}: give 1 to {MAX_COUNT:,}")
    return count
