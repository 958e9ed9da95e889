"""The answer to a search: documents of the user's with what ranked them, and the statement that reads them.

hits = [hit_of(row) for row in session.execute(documents(index, ranking, query))]
hits[0].document, hits[0].score, hits[0].ranks
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, null, select, true
from sqlalchemy.orm import aliased

from hybridsearch.boost import boost_name
from hybridsearch.constant import constant
from hybridsearch.dense import distance_to
from hybridsearch.fusion import distance_name, rank_name, share_name
from hybridsearch.model import SearchIndex
from hybridsearch.query import Query
from hybridsearch.snippet import Snippet


@dataclass(frozen=True)
class Hit:
    """One document of an answer.

    `score` is the fused score (higher is better), `ranks` the rank from 1 in each leg that has the document, `chunk`
    the document's nearest piece (an object of `index.Chunk`; None while the document has no vectors).
    """

    document: Any
    score: float
    ranks: Mapping[str, int]
    chunk: Any | None
    rerank_score: float | None = None
    """What the reranker gave; None without one."""

    distances: Mapping[str, float] = field(default_factory=dict)
    """The distance in each leg that has the document: cosine distance, or the negated score."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """What each of those legs gave to the score; their sum is the score before boosts."""

    boosts: Mapping[str, float] = field(default_factory=dict)
    """The factor of each boost, from 1."""

    snippet: Snippet | None = None
    """The telling places of its text, as HTML; None unless asked for."""


class Hits(list[Hit]):
    """The documents of an answer, best first. `degraded` says what was left undone and why; None for a whole answer.

    `suggestion` is the query with its unknown words put right ("did you mean"); None where there are none.
    """

    degraded: str | None = None
    suggestion: str | None = None


def documents(index: SearchIndex, ranking: Select[Any], query: Query, *, chunks: bool = True) -> Select[Any]:
    """Return the ranking with the model's objects, and each one's nearest chunk (its first without a vector).

    Without `chunks`, null in place of them: their table is not read.
    """
    fused = ranking.cte("ranking")
    values = [column for column in fused.c if column.name not in index.key_names]
    statement: Select[Any]
    if chunks:
        nearest = _nearest(index, query)
        chunk = aliased(index.Chunk, nearest)
        statement = select(index.model, chunk, *values).join_from(fused, index.model, index.same_row(fused))
        statement = statement.outerjoin(nearest, true())
    else:
        nothing = null().label("chunk")
        statement = select(index.model, nothing, *values).join_from(fused, index.model, index.same_row(fused))
    return statement.order_by(fused.c.score.desc(), *index.keys)


def _nearest(index: SearchIndex, query: Query) -> FromClause:
    order: list[ColumnElement[Any]] = [index.chunks.c.ordinal]
    if query.dense is not None:
        # The sum keeps the planner off the HNSW index, whose scan could end before it meets this document.
        order = [constant(0.0) + distance_to(index, query.vector), *order]
    chunks = index.chunks
    return select(chunks).where(index.same_row(chunks)).order_by(*order).limit(constant(1)).lateral("nearest")


def hit_of(row: Any) -> Hit:
    """Return a row of `documents` as a hit."""
    values = row._mapping
    ranks, distances, shares, boosts = (
        {name: values[field] for field, name in of_kind if values[field] is not None} for of_kind in _named(row._fields)
    )
    return Hit(row[0], row.score, ranks, row[1], distances=distances, shares=shares, boosts=boosts)


@lru_cache
def _named(fields: tuple[str, ...]) -> Sequence[Sequence[tuple[str, str]]]:
    """Those of a row's fields that hold ranks, distances, shares and boosts, each with its leg's or boost's name."""
    return [
        [(field, field.removeprefix(prefix)) for field in fields if field.startswith(prefix)]
        for prefix in (rank_name(""), distance_name(""), share_name(""), boost_name(""))
    ]
