"""Why a document is not among the hits: which stage of the search lost it.

    found = why_not(session, index, query, plan, 17)
    found.stage, found.reason       # "beyond candidates", "rank 132 in the dense leg, …"

Asked for one document by a person: each leg is ranked far beyond the candidates of a search, without its index.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, exists, func, literal, or_, select
from sqlalchemy.orm import Session

from hybridsearch import filtering
from hybridsearch.dense import distance_to
from hybridsearch.engines import engine_of
from hybridsearch.fusion import rank_name
from hybridsearch.keys import identity, is_key
from hybridsearch.lexical import changes
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import leg_names, ranking, within
from hybridsearch.sparse import compared

Stage = Literal["found", "no such row", "filtered", "not indexed", "no match", "beyond candidates", "outvoted"]
DEPTH = 100_000  # the last rank of a leg that is looked for


@dataclass(frozen=True)
class Loss:
    """Where one leg lost the document, and its exact `rank` there: None without one, or beyond 100,000."""

    stage: Literal["candidate", "not indexed", "no match", "beyond candidates", "missed by the HNSW scan"]
    rank: int | None = None


@dataclass(frozen=True)
class WhyNot:
    """The `stage` that lost a document, the `reason` as a sentence, and what became of it in each leg.

    `rank` and `score` are those in the whole fused list, None where no leg has it as a candidate. `degraded` says what
    of the search was left undone, and why.
    """

    key: Mapping[str, Any]
    stage: Stage
    reason: str
    legs: Mapping[str, Loss]
    rank: int | None = None
    score: float | None = None
    degraded: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def why_not(session: Session, index: SearchIndex, query: Query, plan: Plan, document: Any) -> WhyNot:
    """Return what became of a document, given as an object of the model, its key, or a tuple of the key's columns."""
    key = identity(index, document)
    named = {column.name: value for column, value in zip(index.keys, key, strict=True)}
    plan = within(index, query, plan)
    found = session.execute(_standing(index, plan, key)).one()
    if not found.there:
        return WhyNot(named, "no such row", f'"{index.table.name}" has no such row that this role can see', {})
    if not found.passes:
        return WhyNot(
            named,
            "filtered",
            "the condition of where=, or a phrase or exclusion of the query, does not hold for it",
            {},
        )
    fused = _place(session, index, ranking(index, query, plan), key)
    ranks = {} if fused is None else {str(name): place for name, place in fused._mapping.items()}
    legs = {}
    for name in leg_names(index, query, plan):
        indexed = found.chunks if name != "lexical" else found.words
        legs[name] = _loss(session, index, query, plan, name, key, ranks.get(rank_name(name)), indexed)
    if fused is None:
        stage, reason = _lost(legs, plan)
        return WhyNot(named, stage, reason, legs)
    shown: Stage = "found" if fused.place <= plan.limit else "outvoted"
    said = f"rank {fused.place} of the fused list" + ("" if shown == "found" else f", after the limit of {plan.limit}")
    return WhyNot(named, shown, said, legs, fused.place, fused.score)


def _standing(index: SearchIndex, plan: Plan, key: tuple[Any, ...]) -> Select[Any]:
    """Whether the row is there, passes the filter, has words in the index, has chunks with vectors."""
    row = select(literal(1)).select_from(index.table).where(is_key(index.keys, key))
    passing = row if plan.where is None else row.where(plan.where)
    asked: dict[str, ColumnElement[bool]] = {
        "there": exists(row),
        "passes": exists(passing),
        "words": exists(select(literal(1)).where(is_key(index.key_columns(index.documents), key))),
        "chunks": exists(select(literal(1)).where(is_key(index.key_columns(index.chunks), key))),
    }
    if index.engine == "sql":
        changed = changes(index)
        live = select(literal(1)).where(is_key([changed.c[name] for name in index.key_names], key))
        asked["words"] = or_(asked["words"], exists(live))
    columns: list[ColumnElement[Any]] = [condition.label(name) for name, condition in asked.items()]
    return select(*columns)


def _place(session: Session, index: SearchIndex, ranked: Select[Any], key: tuple[Any, ...]) -> Any:
    """The document's row of a ranking, with its `place` in it, or None."""
    fused = ranked.subquery("fused")
    keys = [fused.c[name] for name in index.key_names]
    placed = select(*fused.c, func.row_number().over(order_by=(fused.c.score.desc(), *keys)).label("place")).subquery()
    return session.execute(
        select(placed).where(is_key([placed.c[name] for name in index.key_names], key))
    ).one_or_none()


def _loss(
    session: Session,
    index: SearchIndex,
    query: Query,
    plan: Plan,
    leg: str,
    key: tuple[Any, ...],
    rank: int | None,
    indexed: bool,
) -> Loss:
    if rank is not None:
        return Loss("candidate", rank)
    if not indexed:
        return Loss("not indexed")
    entry = _deep(index, query, plan, leg).subquery("entry")
    keys = [entry.c[name] for name in index.key_names]
    placed = select(*keys, func.row_number().over(order_by=(entry.c.distance, *keys)).label("place")).subquery()
    place = session.scalar(
        select(placed.c.place).where(is_key([placed.c[name] for name in index.key_names], key)).limit(1)
    )
    if place is None:
        return Loss("no match" if leg != "dense" else "beyond candidates")
    return Loss("missed by the HNSW scan" if place <= plan.candidates else "beyond candidates", place)


def _deep(index: SearchIndex, query: Query, plan: Plan, leg: str) -> Select[Any]:
    """A leg without the bound of its candidates; the dense one exactly, without its index."""
    where = plan.where
    if leg == "lexical":
        return engine_of(index).leg(
            index, query.text or "", candidates=DEPTH, where=where, prefixes=query.prefixes, read=query.read
        )
    if leg == "sparse":
        return compared(index, query.sparse or {}, candidates=DEPTH, where=where)
    return filtering.compared(index, distance_to(index, query.vector), filtering.ALWAYS, None, where).limit(DEPTH)


def _lost(legs: Mapping[str, Loss], plan: Plan) -> tuple[Stage, str]:
    """Of a document that is no candidate of any leg: the stage that came nearest to one, and the sentence."""
    stages = {loss.stage for loss in legs.values()}
    said = "; ".join(f"{name}: {_said(loss, plan)}" for name, loss in legs.items())
    if stages & {"beyond candidates", "missed by the HNSW scan"}:
        return "beyond candidates", said
    return ("no match" if "no match" in stages else "not indexed"), said


def _said(loss: Loss, plan: Plan) -> str:
    if loss.stage == "beyond candidates":
        rank = f"rank {loss.rank:,}" if loss.rank else f"a rank beyond {DEPTH:,}"
        return f"{rank}, of which {plan.candidates:,} are candidates"
    if loss.stage == "missed by the HNSW scan":
        return f"rank {loss.rank} by exact distance, which the HNSW scan did not meet: raise ef_search"
    return {"no match": "none of its words", "not indexed": "not indexed yet"}.get(loss.stage, loss.stage)
