"""Answer one search on a session: the documents, and what is said beside them, in the time there is.

    answer(session, index, query, plan, watch, encoder)     # Hits

Usually the legs, their fusion and the documents are one statement. When that takes too long, or where the plan wants
them apart, each leg is a statement of its own: one that takes too long is left out, and the others are fused.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, cast, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.constant import DOUBLE
from hybridsearch.content import key_arrays
from hybridsearch.encoders import Encoder
from hybridsearch.errors import StatementTimeout
from hybridsearch.highlight import highlighted
from hybridsearch.hits import Hits, documents, hit_of
from hybridsearch.limits import limited
from hybridsearch.model import SearchIndex
from hybridsearch.observation import Watch
from hybridsearch.options import Plan
from hybridsearch.prepared import prepared
from hybridsearch.query import Query
from hybridsearch.ranking import compares, fused, leg_names, legs
from hybridsearch.state import check_encoder, check_filler
from hybridsearch.suggestion import suggest

Answer = TypeVar("Answer")


def answer(
    session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, encoder: Encoder | None = None
) -> Hits:
    """Return the hits of a query whose engine has read what it needs, and whose vectors the `encoder` made, if any did.

    Raises StatementTimeout where no leg answers in time, EncoderMismatch where another encoder filled the index: the
    statement that compares vectors says which one it was, so that no rebuild comes between.
    """
    is_checked = encoder is not None and compares(index, query, plan)
    if is_checked and query.dense is not None and len(query.vector) != index.storage.dimensions:
        with limited(session, watch.left):  # the server would refuse to compare before it says who made its vectors
            check_encoder(session, index, encoder)

    def whole() -> Hits:
        rows = session.execute(*prepared(index, query, plan, with_filler=is_checked)).all()
        if is_checked and rows:
            check_filler(index, rows[0], encoder)
        elif is_checked:
            check_encoder(session, index, encoder)
        return Hits(hit_of(row) for row in rows)

    def of(ranked: Select[Any]) -> Hits:
        if is_checked:
            check_encoder(session, index, encoder)
        return read(session, index, query, ranked.limit(plan.limit), watch)

    hits = in_time(session, index, query, plan, watch, whole, of)
    complete(session, index, query, plan, watch, hits, leg_names(index, query, plan))
    return hits


def in_time(
    session: Session,
    index: SearchIndex,
    query: Query,
    plan: Plan,
    watch: Watch,
    whole: Callable[[], Answer],
    of: Callable[[Select[Any]], Answer],
) -> Answer:
    """Return what the `whole` statement gives, or, where it takes too long, what comes of the legs that answer.

    Raises StatementTimeout where none does.
    """
    names = leg_names(index, query, plan)
    if not plan.apart:
        share = 0.5 if len(names) > 1 else 1.0  # the other half is for the legs one by one
        try:
            with watch.stage("query"), limited(session, watch.left and watch.left * share):
                return whole()
        except StatementTimeout:
            if len(names) == 1:
                raise
    found = _apart(session, index, query, plan, watch)
    frozen = {name: _frozen(index, rows) for name, rows in found.items()}
    with watch.stage("query"), limited(session, watch.left):
        return of(fused(index, frozen, plan))


def read(
    session: Session,
    index: SearchIndex,
    query: Query,
    ranked: Select[Any],
    watch: Watch,
    where: ColumnElement[bool] | None = None,
) -> Hits:
    """Return the documents of a ranking that `where` holds for.

    With their chunks, unless these are what a leg has waited for in vain.
    """
    chunks = {"leg dense", "leg sparse"}.isdisjoint(watch.lost)
    statement = documents(index, ranked, query, chunks=chunks)
    return Hits(hit_of(row) for row in session.execute(statement if where is None else statement.where(where)))


def complete(
    session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, hits: Hits, legs: Sequence[str]
) -> None:
    """Note what the legs have found, and add to the hits what is said beside them."""
    watch.hits = len(hits)
    ranks = {name: [hit.ranks[name] for hit in hits if name in hit.ranks] for name in legs}
    watch.ranked = {name: len(of_leg) for name, of_leg in ranks.items()}
    watch.deepest = {name: max(of_leg) for name, of_leg in ranks.items() if of_leg}
    _beside(session, index, query, plan, watch, hits)
    hits.degraded = watch.degraded


def _apart(session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch) -> dict[str, Sequence[Any]]:
    """The rows of each leg that answers in time; the rest of the time is shared among those to come."""
    found: dict[str, Sequence[Any]] = {}
    statements = legs(index, query, plan)
    lost = []
    # The words first: they need the least, and answer most.
    for turn, (name, leg) in enumerate(sorted(statements.items(), key=lambda item: item[0] != "lexical")):
        share = len(statements) - turn + 1  # one for the documents
        try:
            with watch.stage(f"leg {name}"), limited(session, watch.left and watch.left / share):
                found[name] = session.execute(leg).all()
        except StatementTimeout as error:
            lost.append(name)
            watch.lose(f"leg {name}", f"leg {name} left out: {error}")
    if len(lost) == len(statements):
        raise StatementTimeout(f"no leg answered in time: {watch.degraded}")
    return {name: found[name] for name in statements if name in found}


def _frozen(index: SearchIndex, rows: Sequence[Any]) -> Select[Any]:
    """The rows of a leg, as a leg."""
    width = len(index.keys)
    columns = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    distances = cast(literal([float(row.distance) for row in rows], ARRAY(DOUBLE)), ARRAY(DOUBLE))
    given = func.unnest(*key_arrays(index, [tuple(row[:width]) for row in rows]), distances)
    table = given.table_valued(*columns, column("distance", DOUBLE)).render_derived(name="frozen")
    return select(*(table.c[name] for name in index.key_names), table.c.distance)


def _beside(session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, hits: Hits) -> None:
    """Add the suggestion and the snippets that are asked for, unless that takes too long."""
    wanted = {
        "suggest": _asks_for_a_suggestion(index, query, plan, hits),
        "snippet": plan.snippet is not None,
    }
    stages = [stage for stage, is_wanted in wanted.items() if is_wanted]
    if not stages:
        return
    try:
        with limited(session, watch.left):
            while stages:
                with watch.stage(stages[0]):
                    _add(stages[0], session, index, query, plan, watch, hits)
                stages.pop(0)
    except StatementTimeout as error:
        for stage in stages:
            watch.lose(stage, f"no {stage}: {error}")


def _add(stage: str, session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, hits: Hits) -> None:
    if stage == "suggest":
        hits.suggestion = suggest(session, index, query, plan, hits, lambda: watch.is_late)
    elif plan.snippet is not None:
        hits[:] = highlighted(session, index, query, hits, plan.snippet)


def _asks_for_a_suggestion(index: SearchIndex, query: Query, plan: Plan, hits: Hits) -> bool:
    if plan.suggest is not None or "lexical" not in leg_names(index, query, plan):
        return bool(plan.suggest)
    return sum("lexical" in hit.ranks for hit in hits) < plan.limit
