"""What a search box has around its list: pages, counts, and what is like a document. Part of HybridSearch.

page = search.page(session, "red chair", limit=20)
search.page(session, "red chair", limit=20, after=page.next)
search.facets(session, "red chair", by={"colour": Article.colour})
search.similar_to(session, article)
search.recommend(session, positive=[17, 4], negative=[9])
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from sqlalchemy import ClauseElement, ColumnElement, Select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from hybridsearch.answer import answer
from hybridsearch.asking import Anything, Asking, AsyncAnything, Question
from hybridsearch.cursor import digest, read
from hybridsearch.errors import QueryError
from hybridsearch.facets import Count, Facet, Over, checked_facets, facets
from hybridsearch.hits import Hits
from hybridsearch.limits import limited
from hybridsearch.model import SearchIndex
from hybridsearch.observation import Watch
from hybridsearch.options import Options, Plan, refuse
from hybridsearch.paging import HitPage, checked, first_page, following_page
from hybridsearch.query import Query
from hybridsearch.similar import LEGS, duplicates, identities, others, query_of
from hybridsearch.state import qualified_name

UNRANKED = {"limit", "deadline", "snippet", "suggest"}  # options that may differ from page to page


class Counts(dict[str, list[Count]]):
    """The counts of each facet, by name. `degraded` says what was left undone and why; None for a whole answer."""

    degraded: str | None = None


class Browsing(Asking):
    """The methods around `search`; each has a form for async sessions and connections, which does the same."""

    def page(
        self, connection: Anything, text: str | Query, /, *, after: str | None = None, **options: Unpack[Options]
    ) -> HitPage:
        """Return the first `limit` documents, or, with the `next` of a page as `after`, those that follow it.

        The list is ranked once, for the first page: later pages neither repeat nor skip a document, whatever is written
        meanwhile; documents that are gone or no longer pass the filter are left out. It is as long as the union of what
        the legs found: more `candidates` make it longer. Later pages need no encoder; their hits have score and ranks,
        no distances, and no suggestion. Raises as `search` does, and QueryError for a cursor that was changed or is of
        another query.
        """
        return self._ask(connection, self._page(text, after, options))

    async def page_async(
        self, connection: AsyncAnything, text: str | Query, /, *, after: str | None = None, **options: Unpack[Options]
    ) -> HitPage:
        """Do the same on an async session or connection."""
        return await self._ask_async(connection, self._page(text, after, options))

    def facets(
        self,
        connection: Anything,
        text: str | Query,
        /,
        *,
        by: Mapping[str, Facet | ColumnElement[Any]],
        over: Over = "fused",
        **options: Unpack[Options],
    ) -> Counts:
        """Return how many documents have which value, for every facet: see `hybridsearch.facets`.

        Raises StatementTimeout where counting takes longer than the deadline.
        """
        return self._ask(connection, self._facets(text, by, over, options))

    async def facets_async(
        self,
        connection: AsyncAnything,
        text: str | Query,
        /,
        *,
        by: Mapping[str, Facet | ColumnElement[Any]],
        over: Over = "fused",
        **options: Unpack[Options],
    ) -> Counts:
        """Do the same on an async session or connection."""
        return await self._ask_async(connection, self._facets(text, by, over, options))

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
        return self._ask(connection, self._recommend(positive, negative, options))

    async def recommend_async(
        self,
        connection: AsyncAnything,
        *,
        positive: Sequence[Any],
        negative: Sequence[Any] = (),
        **options: Unpack[Options],
    ) -> Hits:
        """Do the same on an async session or connection."""
        return await self._ask_async(connection, self._recommend(positive, negative, options))

    def duplicates(
        self, threshold: float, *, neighbours: int = 10, limit: int = 100, where: ColumnElement[bool] | None = None
    ) -> Select[Any]:
        """Return a Select of pairs of documents of a similarity of at least `threshold`: see `hybridsearch.similar`."""
        return duplicates(self.index, threshold, neighbours=neighbours, limit=limit, where=where)

    def _page(self, text: str | Query, after: str | None, options: Options) -> Question[HitPage]:
        plan, secret = self.plan(**options), self.settings.cursor_secret

        def first(session: Session, query: Query, plan: Plan, watch: Watch) -> HitPage:
            query, plan = self._ready(session, query, plan, watch)
            name = _name(self.index, text, options)
            return first_page(session, self._asked(plan), query, plan, watch, name, secret)

        def following(session: Session, query: Query, plan: Plan, watch: Watch) -> HitPage:
            legs = plan.legs or [leg for leg in self.index.legs if not isinstance(text, Query) or text.has(leg)]
            cursor = checked(self.index, read(after, secret), _name(self.index, text, options), legs)
            if left_out := [leg for leg in legs if leg not in cursor.legs]:  # broken or late on the first page
                watch.lose("list", f"the list was ranked without {' and '.join(left_out)}")
            return following_page(session, self._asked(plan), query, plan, watch, cursor, secret)

        if after is None:
            return Question("page", plan, partial(self._understood, text, plan), first)
        refuse("a page after another", options, "suggest")
        plan = replace(plan, suggest=False)
        return Question("page", plan, partial(self._at_hand, text, plan), following)

    def _facets(self, text: str | Query, by: Any, over: Over, options: Options) -> Question[Counts]:
        refuse("facets", options, "snippet", "suggest")
        plan, counted = self.plan(**options), checked_facets(self.index, by, over)

        def work(session: Session, query: Query, plan: Plan, watch: Watch) -> Counts:
            if over == "fused":
                query, plan = self._ready(session, query, plan, watch)
            with watch.stage("query"), limited(session, watch.left):
                counts = Counts(facets(session, self._asked(plan), query, plan, counted, over))
            counts.degraded = watch.degraded
            return counts

        understand = self._understood if over == "fused" else self._at_hand  # all that have a word are asked by words
        return Question("facets", plan, partial(understand, text, plan), work)

    def _recommend(self, positive: Any, negative: Any, options: Options) -> Question[Hits]:
        refuse("a search by documents", options, "suggest", "config")
        index, plan = self.index, self.plan(**options)
        if plan.legs is not None and set(plan.legs) - set(LEGS):
            raise QueryError(f"legs of a search by documents: give {' or '.join(set(LEGS) & set(index.legs))}")

        def work(session: Session, query: Query, plan: Plan, watch: Watch) -> Hits:
            liked, disliked = identities(index, "positive", positive), identities(index, "negative", negative)
            with limited(session, watch.left):
                query = query_of(session, index, liked, disliked)
            plan = replace(plan, where=others(index, [*liked, *disliked], plan.where))
            return answer(session, index, query, plan, watch)

        return Question("recommend", plan, lambda watch: (Query(), plan), work)


def _name(index: SearchIndex, text: str | Query, options: Options) -> str:
    """The digest of a query and of what changes its ranking."""
    given = [text] if isinstance(text, str) else [text.text, _numbers(text.dense), _numbers(text.sparse)]
    changing = [(name, _written(options.get(name))) for name in sorted(set(options) - UNRANKED)]
    return digest(qualified_name(index), given, changing)


def _numbers(vector: Any) -> Any:
    return sorted(vector.items()) if isinstance(vector, Mapping) else vector if vector is None else list(vector)


def _written(value: Any) -> Any:
    """An option in a way that is the same in every process."""
    if isinstance(value, Mapping):
        return [(name, _written(value[name])) for name in sorted(value, key=str)]
    expression = getattr(value, "expression", value)
    if isinstance(expression, ClauseElement) or hasattr(expression, "__clause_element__"):
        compiled = expression.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
        return str(compiled), sorted(compiled.params.items()), getattr(value, "weight", None)
    return list(value) if isinstance(value, list | tuple) else value
