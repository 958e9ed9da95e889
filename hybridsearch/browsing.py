"""What a search box has around its list: pages, counts, and what is like a document. Part of HybridSearch.

page = search.page(session, "red chair", limit=20)
search.page(session, "red chair", limit=20, after=page.next)
search.facets(session, "red chair", by={"colour": Article.colour})
search.similar_to(session, article)
search.recommend(session, positive=[17, 4], negative=[9])
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

from sqlalchemy import ColumnElement, Connection, Select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from hybridsearch.cursor import Cursor, digest, read
from hybridsearch.database import explained
from hybridsearch.encoders import Encoder
from hybridsearch.errors import QueryError
from hybridsearch.facets import Count, Facet, Over, checked_facets, facets
from hybridsearch.hits import Hits, documents, hit_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Options, Plan
from hybridsearch.paging import HitPage, first_page, following_page
from hybridsearch.query import Query
from hybridsearch.ranking import leg_names, ranking
from hybridsearch.sessions import run_async, session_of
from hybridsearch.settings import Settings
from hybridsearch.similar import LEGS, duplicates, identities, others, query_of
from hybridsearch.state import check_encoder, qualified_name

Anything = Session | Connection
AsyncAnything = AsyncSession | AsyncConnection


class Browsing(ABC):
    """The methods around `search`; each has a form for async sessions and connections, which does the same."""

    index: SearchIndex
    encoder: Encoder
    settings: Settings

    @abstractmethod
    def query(self, text: str | Query, legs: Sequence[str] | None = None) -> Query:
        """Return what is searched for in the legs."""

    @abstractmethod
    def plan(self, **options: Unpack[Options]) -> Plan:
        """Return how it is searched for."""

    @abstractmethod
    def _asked(self, plan: Plan | None) -> SearchIndex:
        """The index, as the plan's configuration analyses queries."""

    @abstractmethod
    def _ready(self, session: Session, query: Query, plan: Plan) -> Query:
        """The query with what its legs have to read beforehand."""

    def page(
        self, connection: Anything, text: str | Query, /, *, after: str | None = None, **options: Unpack[Options]
    ) -> HitPage:
        """Return the first `limit` documents, or, with the `next` of a page as `after`, those that follow it.

        The list is ranked once, for the first page: later pages neither repeat nor skip a document, whatever is written
        meanwhile; documents that are gone or no longer pass the filter are left out. It is as long as the union of what
        the legs found: more `candidates` make it longer. Hits of later pages have score and ranks, no distances. Raises
        as `search` does, and QueryError for a cursor that was changed or is of another query.
        """
        return self._page(connection, *self._given(text, options), _name(self, text, options), after)

    async def page_async(
        self, connection: AsyncAnything, text: str | Query, /, *, after: str | None = None, **options: Unpack[Options]
    ) -> HitPage:
        """Do the same on an async session or connection."""
        query, plan = await asyncio.to_thread(self._given, text, options)
        name = _name(self, text, options)
        return await run_async(self.index, connection, lambda opened: self._page(opened, query, plan, name, after))

    def facets(
        self,
        connection: Anything,
        text: str | Query,
        /,
        *,
        by: Mapping[str, Facet | ColumnElement[Any]],
        over: Over = "fused",
        **options: Unpack[Options],
    ) -> dict[str, list[Count]]:
        """Return how many documents have which value, for every facet: see `hybridsearch.facets`."""
        return self._facets(connection, *self._given(text, options), by, over)

    async def facets_async(
        self,
        connection: AsyncAnything,
        text: str | Query,
        /,
        *,
        by: Mapping[str, Facet | ColumnElement[Any]],
        over: Over = "fused",
        **options: Unpack[Options],
    ) -> dict[str, list[Count]]:
        """Do the same on an async session or connection."""
        query, plan = await asyncio.to_thread(self._given, text, options)
        return await run_async(self.index, connection, lambda opened: self._facets(opened, query, plan, by, over))

    def similar_to(self, connection: Anything, document: Any, /, **options: Unpack[Options]) -> Hits:
        """Return the documents that are most like one, given as an object or by its key; without an encoder."""
        return self.recommend(connection, positive=[document], **options)

    async def similar_to_async(self, connection: AsyncAnything, document: Any, /, **options: Unpack[Options]) -> Hits:
        """Do the same on an async session or connection."""
        return await self.recommend_async(connection, positive=[document], **options)

    def recommend(
        self, connection: Anything, *, positive: Sequence[Any], negative: Sequence[Any] = (), **options: Unpack[Options]
    ) -> Hits:
        """Return the documents that are most like the positive and least like the negative ones, none of which is among
        them. `legs` are dense, sparse (where the encoder has it) or both. Needs no encoder: see `hybridsearch.similar`.
        """
        index = self.index
        liked, disliked = identities(index, "positive", positive), identities(index, "negative", negative)
        plan = self.plan(**options)
        if plan.legs is not None and set(plan.legs) - set(LEGS):
            raise QueryError(f"legs of a search by documents: give {' or '.join(set(LEGS) & set(index.legs))}")
        plan = replace(plan, where=others(index, [*liked, *disliked], plan.where))
        with explained(index), session_of(connection) as session:
            check_encoder(session, index, self.encoder)
            query = query_of(session, index, liked, disliked)
            ranked = ranking(index, query, plan).limit(plan.limit)
            return Hits(hit_of(row) for row in session.execute(documents(index, ranked, query)))

    async def recommend_async(
        self,
        connection: AsyncAnything,
        *,
        positive: Sequence[Any],
        negative: Sequence[Any] = (),
        **options: Unpack[Options],
    ) -> Hits:
        """Do the same on an async session or connection."""

        def work(opened: Anything) -> Hits:
            return self.recommend(opened, positive=positive, negative=negative, **options)

        return await run_async(self.index, connection, work)

    def duplicates(
        self, threshold: float, *, neighbours: int = 10, limit: int = 100, where: ColumnElement[bool] | None = None
    ) -> Select[Any]:
        """Return a Select of pairs of documents of a similarity of at least `threshold`: see `hybridsearch.similar`."""
        return duplicates(self.index, threshold, neighbours=neighbours, limit=limit, where=where)

    def _given(self, text: str | Query, options: Options) -> tuple[Query, Plan]:
        plan = self.plan(**options)
        query = self.query(text, plan.legs)
        leg_names(self.index, query, plan)  # what cannot be answered is refused before the server is asked
        return query, plan

    def _page(self, connection: Anything, query: Query, plan: Plan, name: str, after: str | None) -> HitPage:
        index, secret = self._asked(plan), self.settings.cursor_secret
        cursor = None if after is None else _checked(read(after, secret), name, leg_names(index, query, plan))
        with explained(index), session_of(connection) as session:
            check_encoder(session, index, self.encoder)
            if cursor is not None:
                return following_page(session, index, query, plan, cursor, secret)
            return first_page(session, index, self._ready(session, query, plan), plan, name, secret)

    def _facets(self, connection: Anything, query: Query, plan: Plan, by: Any, over: Over) -> dict[str, list[Count]]:
        checked = checked_facets(self.index, by, over)
        with explained(self.index), session_of(connection) as session:
            check_encoder(session, self.index, self.encoder)
            return facets(session, self._asked(plan), self._ready(session, query, plan), plan, checked, over)


def _checked(cursor: Cursor, name: str, legs: tuple[str, ...]) -> Cursor:
    if cursor.digest != name or cursor.legs != legs:
        raise QueryError("this cursor is of another query, or of other options: give the ones that it came from")
    return cursor


def _name(search: Browsing, text: str | Query, options: Options) -> str:
    """The digest of a query and of what changes its ranking; a page may have another limit."""
    given = [text] if isinstance(text, str) else [text.text, _numbers(text.dense), _numbers(text.sparse)]
    changing = [(name, _written(options.get(name))) for name in sorted(options) if name != "limit"]
    return digest(qualified_name(search.index), search.encoder.fingerprint, given, changing)


def _numbers(vector: Any) -> Any:
    return sorted(vector.items()) if isinstance(vector, Mapping) else vector if vector is None else list(vector)


def _written(value: Any) -> Any:
    """An option in a way that is the same in every process."""
    if isinstance(value, Mapping):
        return [(name, _written(value[name])) for name in sorted(value, key=str)]
    expression = getattr(value, "expression", value)
    if isinstance(expression, ColumnElement) or hasattr(expression, "__clause_element__"):
        compiled = expression.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
        return str(compiled), sorted(compiled.params.items()), getattr(value, "weight", None)
    return list(value) if isinstance(value, list | tuple) else value
