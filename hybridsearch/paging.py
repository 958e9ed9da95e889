"""Pages of one ranking: it is made once, and later pages go on in the list as it was.

page = first_page(session, index, query, plan, digest, secret)
page.next, page.total, page.exact
following_page(session, index, query, plan, read(page.next, secret), secret)
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, Integer, Select, Text, cast, column, func, literal, select
from sqlalchemy.orm import Session

from hybridsearch.cursor import Cursor, Entry, write
from hybridsearch.fusion import DOUBLE, rank_name
from hybridsearch.hits import Hits, documents, hit_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import leg_names, ranking, within


class HitPage(Hits):
    """Some hits of a ranking. `next` is the cursor of those that follow, None for the last page.

    `total` is how many documents the ranking has: `exact`, or, where a leg had more than its candidates, a lower bound.
    """

    next: str | None = None
    total: int = 0
    exact: bool = True


def first_page(session: Session, index: SearchIndex, query: Query, plan: Plan, name: str, secret: str) -> HitPage:
    """Rank, and return the first `limit` documents; `name` is the digest of what is searched for."""
    legs = leg_names(index, query, plan)
    ranked = ranking(index, query, plan).cte("ranked")
    keys = [cast(ranked.c[key], Text) for key in index.key_names]
    ranks = [ranked.c[rank_name(leg)] for leg in legs]
    order = [ranked.c.score.desc(), *(ranked.c[key] for key in index.key_names)]
    rows = session.execute(select(*keys, ranked.c.score, *ranks).order_by(*order)).all()
    width = len(keys)
    entries = tuple(Entry(tuple(row[:width]), row.score, tuple(map(_rank, row[width + 1 :]))) for row in rows)
    # A leg that gave fewer than it was asked for had no more.
    exact = all(max((entry.ranks[n] or 0 for entry in entries), default=0) < plan.candidates for n in range(len(legs)))
    cursor = Cursor(name, legs, entries, len(entries), exact)
    return following_page(session, index, query, plan, cursor, secret)


def following_page(
    session: Session, index: SearchIndex, query: Query, plan: Plan, cursor: Cursor, secret: str
) -> HitPage:
    """Return the next `limit` documents of the list, without those that are gone or no longer pass the filter."""
    shown, rest = cursor.entries[: plan.limit], cursor.entries[plan.limit :]
    page = HitPage()
    page.total, page.exact = cursor.total, cursor.exact
    if rest:
        page.next = write(Cursor(cursor.digest, cursor.legs, rest, cursor.total, cursor.exact), secret)
    if shown:
        statement = documents(index, frozen(index, cursor.legs, shown), query)
        where = within(index, query, plan).where
        page.extend(hit_of(row) for row in session.execute(statement if where is None else statement.where(where)))
    return page


def frozen(index: SearchIndex, legs: Sequence[str], entries: Sequence[Entry]) -> Select[Any]:
    """Return entries of a list as a ranking: the keys, `score` and `rank_<leg>`."""
    texts = [func.unnest(_array([entry.key[n] for entry in entries], Text)) for n in range(len(index.keys))]
    scores = func.unnest(_array([entry.score for entry in entries], DOUBLE))
    ranks = [func.unnest(_array([entry.ranks[n] for entry in entries], Integer)) for n in range(len(legs))]
    rows = select(
        *(text.label(name) for text, name in zip(texts, index.key_names, strict=True)),
        scores.label("score"),
        *(rank.label(rank_name(leg)) for rank, leg in zip(ranks, legs, strict=True)),
    ).subquery("entries")
    keys = [cast(rows.c[name], key.type).label(name) for name, key in zip(index.key_names, index.keys, strict=True)]
    return select(*keys, rows.c.score, *(column(rank_name(leg), Integer) for leg in legs)).select_from(rows)


def _array(values: Sequence[Any], kind: Any) -> Any:
    return cast(literal(list(values), ARRAY(kind)), ARRAY(kind))


def _rank(value: Any) -> int | None:
    return None if value is None else int(value)
