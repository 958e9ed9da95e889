"""Search an index: from text to ranked objects.

search = HybridSearch(articles)
hits = search.search(session, "forgot my password", limit=10, where=Article.lang == "en")
hits = await search.search_async(async_session, "forgot my password")
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from sqlalchemy import Connection, Select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from hybridsearch.answer import answer
from hybridsearch.browsing import Browsing
from hybridsearch.database import explained
from hybridsearch.encoders import Encoder
from hybridsearch.encoders.cache import LRU, QueryCache
from hybridsearch.encoding import work_of
from hybridsearch.engines import engine_of
from hybridsearch.errors import EncoderError, EncoderMismatch, QueryError
from hybridsearch.explain import explain
from hybridsearch.explanation import Explanation
from hybridsearch.hits import Hit, Hits
from hybridsearch.indexing import refresh
from hybridsearch.missed import WhyNot, why_not
from hybridsearch.model import SearchIndex
from hybridsearch.observation import SearchRecord, Watch, watching
from hybridsearch.options import Options, Plan, checked_count, plan
from hybridsearch.page import Page
from hybridsearch.patience import Patience
from hybridsearch.query import Query, checked, checked_text
from hybridsearch.ranking import leg_names, ranking
from hybridsearch.rerank import Scorer
from hybridsearch.rerank import rerank as reordered
from hybridsearch.sessions import run_async, session_of
from hybridsearch.settings import Settings, Syntax, from_environment
from hybridsearch.state import check_encoder
from hybridsearch.syntax import Parsed, parse
from hybridsearch.template import as_text

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rerank:
    """Read the first `top` texts with a `scorer` and order them anew; after `timeout` seconds the fused order stays."""

    scorer: Scorer
    top: int = 50
    timeout: float | None = None
    batch: int = 32


class HybridSearch(Browsing):
    """Searches one index. Make it once and share it between threads; the encoder is loaded at its first use.

    `store` keeps the encodings of recent queries: an LRU of this process by default, a SharedStore for all of them.
    `on_search` is called with a SearchRecord at the end of each search.
    """

    def __init__(
        self,
        index: SearchIndex,
        *,
        encoder: Encoder | None = None,
        settings: Settings | None = None,
        store: LRU | None = None,
        on_search: Callable[[SearchRecord], object] | None = None,
    ) -> None:
        self.index = index
        self.encoder = encoder or index.encoder
        self.settings = settings or from_environment()
        self._cache = QueryCache(self.encoder, store=store)
        self._on_search = on_search
        self._patience = Patience()

    def encode(self, text: str, *, syntax: Syntax | None = None) -> Query:
        """Check the text, read its operators (by `syntax`, or the settings' one) and encode its words.

        Raises QueryError for what cannot be searched for, EncoderError from the encoder.
        """
        query = self._words(text, syntax)
        with work_of(self.encoder):
            encoding = self._cache.encode(query.text or "")
        return replace(query, dense=self.index.storage.fit(encoding.dense[np.newaxis])[0], sparse=encoding.sparse)

    def query(self, text: str | Query, legs: Sequence[str] | None = None) -> Query:
        """Return what is searched for in the legs: a text is encoded unless only its words are needed."""
        if isinstance(text, Query):
            return checked(self.index, text, self.settings.max_query_length)
        if legs is None or set(legs) - {"lexical"}:
            return self.encode(text)
        return self._words(text)

    def _words(self, text: str, syntax: Syntax | None = None) -> Query:
        """The text without its operators, and those."""
        text = checked_text(text, self.settings.max_query_length)
        parsed = parse(text) if (syntax or self.settings.syntax) == "web" else Parsed(text)
        return Query(parsed.words, parsed=parsed)

    def read(self, session: Session, query: Query, plan: Plan | None = None) -> Query:
        """Return the query with what the engine has to read of the rows before the statement: only `memory` does."""
        if query.text is None:
            return query
        index = self._asked(plan)
        read = engine_of(index).read(session, index, query.text, query.prefixes)
        return replace(query, read=read)

    def plan(self, **options: Unpack[Options]) -> Plan:
        """Return how it is searched for: the options, checked, and completed by the settings."""
        return plan(self.index, self.settings, options)

    def select(self, text: str | Query, /, **options: Unpack[Options]) -> Select[Any]:
        """Return the ranking as a Select of the key columns, `score` and `rank_<leg>`, to join and filter further.

        Raises QueryError for what cannot be answered, EncoderError from the encoder.
        """
        plan = self.plan(**options)
        return self._ranking(self.query(text, plan.legs), plan)

    def search(
        self,
        connection: Session | Connection,
        text: str | Query,
        /,
        *,
        rerank: Rerank | None = None,
        **options: Unpack[Options],
    ) -> Hits:
        """Return the best documents, best first; reads only, in the caller's transaction.

        The documents are objects of the session; from a plain Connection, detached ones. With `rerank` the first hits
        are read and ordered anew; where that fails or takes too long, the fused order is returned and `degraded` says
        why. A broken encoder, or a leg that takes longer than the deadline, is left out, and `degraded` says so as
        well, unless nothing remains. Raises as `select` does, and DatabaseError.
        """
        plan = self.plan(**options)
        with self._watching(plan) as watch:
            query, plan = self._understood(text, plan, watch)
            hits = self._found(connection, query, _deep(plan, rerank, query), watch)
            return self._ordered(rerank, query, hits, plan.limit, watch)

    async def search_async(
        self,
        connection: AsyncSession | AsyncConnection,
        text: str | Query,
        /,
        *,
        rerank: Rerank | None = None,
        **options: Unpack[Options],
    ) -> Hits:
        """Do the same on an AsyncSession; the text is encoded in a thread, so the event loop goes on."""
        plan = self.plan(**options)
        with self._watching(plan) as watch:
            query, plan = await asyncio.to_thread(self._understood, text, plan, watch)
            deep = _deep(plan, rerank, query)
            hits = await run_async(self.index, connection, lambda opened: self._found(opened, query, deep, watch))
            return await asyncio.to_thread(self._ordered, rerank, query, hits, plan.limit, watch)

    def refresh(self, session: Session, /) -> Page:
        """Index what has changed, here and in the caller's transaction: for an application without a worker.

        Raises EncoderError where the encoder fails at everything, EncoderMismatch if another one filled the index.
        """
        with explained(self.index):
            return refresh(session, self.index)

    def explain(
        self, connection: Session | Connection, text: str | Query, /, **options: Unpack[Options]
    ) -> list[Explanation]:
        """Return the hits of a search with what their scores are made of. Options and errors as for `search`."""
        plan = self.plan(**options)
        return self._explained(connection, self.query(text, plan.legs), plan)

    async def explain_async(
        self, connection: AsyncSession | AsyncConnection, text: str | Query, /, **options: Unpack[Options]
    ) -> list[Explanation]:
        """Do the same on an AsyncSession or AsyncConnection."""
        plan = self.plan(**options)
        query = await asyncio.to_thread(self.query, text, plan.legs)
        return await connection.run_sync(self._explained, query, plan)

    def why_not(
        self, connection: Session | Connection, text: str | Query, document: Any, /, **options: Unpack[Options]
    ) -> WhyNot:
        """Return which stage of a search lost a document, given as an object of the model or as its key."""
        plan = self.plan(**options)
        query = self.query(text, plan.legs)
        with explained(self.index), session_of(connection) as session:
            check_encoder(session, self.index, self.encoder)
            return why_not(session, self._asked(plan), self._ready(session, query, plan), plan, document)

    def _explained(self, connection: Session | Connection, query: Query, plan: Plan) -> list[Explanation]:
        with explained(self.index), session_of(connection) as session:
            check_encoder(session, self.index, self.encoder)
            return explain(session, self._asked(plan), self._ready(session, query, plan), plan)

    def _asked(self, plan: Plan | None) -> SearchIndex:
        """The index, as the plan's configuration analyses queries."""
        return self.index if plan is None or plan.config is None else self.index.asked_in(plan.config)

    def _ranking(self, query: Query, plan: Plan) -> Select[Any]:
        return ranking(self._asked(plan), query, plan).limit(plan.limit)

    def _watching(self, plan: Plan) -> AbstractContextManager[Watch]:
        options = {"limit": plan.limit, "candidates": plan.candidates, "fusion": plan.fusion}
        return watching(self.index.name, plan.deadline, self._on_search, **options)

    def _understood(self, text: str | Query, plan: Plan, watch: Watch) -> tuple[Query, Plan]:
        """What is searched for. Where the encoder fails or takes too long, the words, if they were to be searched."""
        if isinstance(text, Query) or plan.legs == ("lexical",):
            return self.query(text, plan.legs), plan
        words = self._words(text)
        patience = watch.left and watch.left / 2  # the other half is the database's
        try:
            with watch.stage("encode"):
                name = f'encoder "{self.encoder.name}"'
                return self._patience.ask(patience, lambda: self.encode(text), name), plan
        except EncoderError as error:
            worded = "lexical" in (plan.legs or self.index.legs) and plan.weights["lexical"] > 0
            if isinstance(error, EncoderMismatch) or not worded:
                raise
            logger.warning("answered by words alone: %s", error)
            watch.lose("encode", f"answered by words alone: {error}")
            return words, replace(plan, legs=("lexical",))

    def _found(self, connection: Session | Connection, query: Query, plan: Plan, watch: Watch) -> Hits:
        leg_names(self.index, query, plan)  # what cannot be answered is refused before the server is asked
        with explained(self.index), session_of(connection) as session:
            check_encoder(session, self.index, self.encoder)
            return answer(session, self._asked(plan), self._ready(session, query, plan), plan, watch)

    def _ready(self, session: Session, query: Query, plan: Plan) -> Query:
        """The query with what its legs have to read beforehand."""
        return self.read(session, query, plan) if "lexical" in leg_names(self.index, query, plan) else query

    def _ordered(self, order: Rerank | None, query: Query, hits: Hits, limit: int, watch: Watch) -> Hits:
        """The first hits in the order of the reranker, if there is one."""
        if order is not None:
            with watch.stage("rerank"):
                self._rerank(order, query, hits, watch)
        del hits[limit:]
        watch.hits = len(hits)
        hits.degraded = watch.degraded
        return hits

    def _rerank(self, order: Rerank, query: Query, hits: Hits, watch: Watch) -> None:
        def text(hit: Hit) -> str:
            fields = (as_text(getattr(hit.document, name)) for name in self.index.fields)
            return hit.chunk.text if hit.chunk is not None else "\n".join(filter(None, fields))

        limits = [limit for limit in (order.timeout, watch.left) if limit is not None]
        done = reordered(
            order.scorer, query.text or "", hits, text=text, timeout=min(limits, default=None), batch=order.batch
        )
        scores: Sequence[float | None] = done.scores or [None] * len(done.items)
        hits[:] = [replace(hit, rerank_score=score) for hit, score in zip(done.items, scores, strict=True)]
        if done.reason is not None:
            watch.lose("rerank", f"not reranked: {done.reason}")


def _deep(plan: Plan, order: Rerank | None, query: Query) -> Plan:
    """The plan, with as many documents as the reranker reads."""
    if order is None:
        return plan
    if query.text is None:
        raise QueryError("a query without words cannot be reranked: give its text as well")
    limit = max(plan.limit, checked_count("rerank top", order.top))
    return replace(plan, limit=limit, candidates=max(limit, plan.candidates))
