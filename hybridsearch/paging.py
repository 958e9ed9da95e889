"""Pages of one ranking: it is made once, and later pages go on in the list as it was.

page = first_page(session, index, query, plan, watch, digest, secret)
page.next, page.total, page.exact
following_page(session, index, query, plan, watch, read(page.next, secret), secret)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Integer, Select, Text, cast, func, literal, select
from sqlalchemy.orm import Session

from hybridsearch.answer import complete, in_time, read
from hybridsearch.constant import DOUBLE
from hybridsearch.cursor import Cursor, Entry, unusable, write
from hybridsearch.errors import QueryError
from hybridsearch.fusion import rank_name
from hybridsearch.hits import Hits
from hybridsearch.keys import as_key
from hybridsearch.limits import limited
from hybridsearch.model import SearchIndex
from hybridsearch.observation import Watch
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


def first_page(
    session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, name: str, secret: str
) -> HitPage:
    """Rank, and return the first `limit` documents; `name` is the digest of what is searched for."""

    def of(ranked: Select[Any]) -> Sequence[Any]:
        return _rows(session, index, ranked)

    rows = in_time(session, index, query, plan, watch, lambda: of(ranking(index, query, plan)), of)
    legs = tuple(leg for leg in leg_names(index, query, plan) if f"leg {leg}" not in watch.lost)
    entries = tuple(_entry(index, legs, row._mapping) for row in rows)
    # A leg that gave fewer than it was asked for had no more.
    exact = all(max((entry.ranks[n] or 0 for entry in entries), default=0) < plan.candidates for n in range(len(legs)))
    cursor = Cursor(name, legs, entries, len(entries), exact)
    return following_page(session, index, query, plan, watch, cursor, secret)


def following_page(
    session: Session, index: SearchIndex, query: Query, plan: Plan, watch: Watch, cursor: Cursor, secret: str
) -> HitPage:
    """Return the next `limit` documents of the list, without those that are gone or no longer pass the filter."""
    shown, rest = cursor.entries[: plan.limit], cursor.entries[plan.limit :]
    page = HitPage()
    page.total, page.exact = cursor.total, cursor.exact
    if rest:
        page.next = write(replace(cursor, entries=rest), secret)
    if shown:
        where = within(index, query, plan).where
        with watch.stage("query"), limited(session, watch.left):
            page.extend(read(session, index, query, frozen(index, cursor.legs, shown), watch, where))
    complete(session, index, query, plan, watch, page, cursor.legs)
    return page


def checked(index: SearchIndex, cursor: Cursor, name: str, legs: Sequence[str]) -> Cursor:
    """Return a cursor of the query of this `name`, ranked by some of the legs; raise QueryError for any other."""
    if cursor.digest != name or not set(cursor.legs) <= set(legs):
        raise QueryError("this cursor is of another query, or of other options: give the ones that it came from")
    try:
        entries = tuple(replace(entry, key=as_key(index, entry.key)) for entry in cursor.entries)
        return replace(cursor, entries=entries)
    except ValueError as error:
        raise unusable() from error


def frozen(index: SearchIndex, legs: Sequence[str], entries: Sequence[Entry]) -> Select[Any]:
    """Return entries of a list as a ranking: the keys, `score`, `rank_<leg>`, and what else is known of them."""
    texts = [_unnested([entry.key[n] for entry in entries], Text) for n in range(len(index.keys))]
    figures = {"score": _unnested([entry.score for entry in entries], DOUBLE)}
    figures |= {rank_name(leg): _unnested([entry.ranks[n] for entry in entries], Integer) for n, leg in enumerate(legs)}
    figures |= {name: _unnested([entry.others[name] for entry in entries], DOUBLE) for name in entries[0].others}
    rows = select(
        *(text.label(name) for text, name in zip(texts, index.key_names, strict=True)),
        *(figure.label(name) for name, figure in figures.items()),
    ).subquery("entries")
    keys = [cast(rows.c[name], key.type).label(name) for name, key in zip(index.key_names, index.keys, strict=True)]
    return select(*keys, *(rows.c[name] for name in figures)).select_from(rows)


def _rows(session: Session, index: SearchIndex, ranked: Select[Any]) -> Sequence[Any]:
    """A whole ranking, best first: the keys as PostgreSQL writes them, and all that it says of each document."""
    found = ranked.cte("ranked")
    keys = [cast(found.c[name], Text).label(name) for name in index.key_names]
    figures = [column for column in found.c if column.name not in index.key_names]
    return session.execute(
        select(*keys, *figures).order_by(found.c.score.desc(), *(found.c[name] for name in index.key_names))
    ).all()


def _entry(index: SearchIndex, legs: Sequence[str], row: Mapping[str, Any]) -> Entry:
    ranks = {leg: row[rank_name(leg)] for leg in legs}
    known = {"score", *index.key_names, *map(rank_name, legs)}
    return Entry(
        key=tuple(row[name] for name in index.key_names),
        score=row["score"],
        ranks=tuple(None if rank is None else int(rank) for rank in ranks.values()),
        others={name: value for name, value in row.items() if name not in known},
    )


def _unnested(values: Sequence[Any], kind: Any) -> ColumnElement[Any]:
    return func.unnest(cast(literal(list(values), ARRAY(kind)), ARRAY(kind)))
