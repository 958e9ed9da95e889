"""The answer to a search: documents of the user's with what ranked them, and the statement that reads them.

hits = [hit_of(row) for row in session.execute(documents(index, ranking, query))]
hits[0].document, hits[0].score, hits[0].ranks
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, select, true
from sqlalchemy.orm import aliased

from hybridsearch.dense import distance_to
from hybridsearch.fusion import rank_name
from hybridsearch.model import SearchIndex
from hybridsearch.query import Query


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


class Hits(list[Hit]):
    """The documents of an answer, best first. `degraded` says what was left undone and why; None for a whole answer."""

    degraded: str | None = None


def documents(index: SearchIndex, ranking: Select[Any], query: Query) -> Select[Any]:
    """Return the ranking with the model's objects, and each one's nearest chunk (its first without a vector)."""
    fused, chunks = ranking.cte("ranking"), index.chunks
    order: list[ColumnElement[Any]] = [chunks.c.ordinal]
    if query.dense is not None:
        # The sum keeps the planner off the HNSW index, whose scan could end before it meets this document.
        order = [literal(0.0) + distance_to(index, query.vector), *order]
    nearest = select(chunks).where(index.same_row(chunks)).order_by(*order).limit(1).lateral("nearest")
    chunk = aliased(index.Chunk, nearest)
    return (
        select(index.model, chunk, *(column for column in fused.c if column.name not in index.key_names))
        .join_from(fused, index.model, index.same_row(fused))
        .outerjoin(nearest, true())
        .order_by(fused.c.score.desc(), *index.keys)
    )


def hit_of(row: Any) -> Hit:
    """Return a row of `documents` as a hit."""
    prefix = rank_name("")
    ranks = {str(name): rank for name, rank in row._mapping.items() if rank is not None}
    legs = {name.removeprefix(prefix): rank for name, rank in ranks.items() if name.startswith(prefix)}
    return Hit(document=row[0], score=row.score, ranks=legs, chunk=row[1])
