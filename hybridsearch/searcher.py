"""Search an index: from text to ranked objects.

search = HybridSearch(articles)
hits = search.search(session, "forgot my password", limit=10, where=Article.lang == "en")
hits = await search.search_async(async_session, "forgot my password")
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Unpack, cast

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from hybridsearch.answer import answer
from hybridsearch.asking import Anything, AsyncAnything, Question
from hybridsearch.browsing import Browsing
from hybridsearch.database import explained
from hybridsearch.errors import QueryError
from hybridsearch.explaining import Explaining
from hybridsearch.hits import Hit, Hits
from hybridsearch.indexing import refresh
from hybridsearch.observation import Watch
from hybridsearch.options import Options, Plan, checked_count, refuse
from hybridsearch.page import Page
from hybridsearch.query import Query
from hybridsearch.ranking import ranking
from hybridsearch.rerank import Scorer
from hybridsearch.rerank import rerank as reordered
from hybridsearch.sessions import run_async
from hybridsearch.template import as_text


@dataclass(frozen=True)
class Rerank:
    """Read the first `top` texts with a `scorer` and order them anew; after `timeout` seconds the fused order stays."""

    scorer: Scorer
    top: int = 50
    timeout: float | None = None
    batch: int = 32


class HybridSearch(Browsing, Explaining):
    """Searches one index. Make it once and share it between threads; the encoder is loaded at its first use.

    `store` keeps the encodings of recent queries: an LRU of this process by default, a SharedStore for all of them.
    `on_search` is called with a SearchRecord at the end of each search.
    """

    def select(self, text: str | Query, /, **options: Unpack[Options]) -> Select[Any]:
        """Return the ranking as a Select of the key columns, `score` and `rank_<leg>`, to join and filter further.

        Raises QueryError for what cannot be answered, EncoderError from the encoder: there is nobody to tell of a
        leg that is left out.
        """
        refuse("select", options, "deadline", "snippet", "suggest")
        plan = self.plan(**options)
        return ranking(self._asked(plan), self.query(text, plan.legs), plan).limit(plan.limit)

    def search(
        self,
        connection: Anything,
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
        return self._ask(connection, self._search(text, rerank, options))

    async def search_async(
        self,
        connection: AsyncAnything,
        text: str | Query,
        /,
        *,
        rerank: Rerank | None = None,
        **options: Unpack[Options],
    ) -> Hits:
        """Do the same on an AsyncSession; the text is encoded in a thread, so the event loop goes on."""
        return await self._ask_async(connection, self._search(text, rerank, options))

    def refresh(self, session: Session, /) -> Page:
        """Index what has changed, here and in the caller's transaction: for an application without a worker.

        Raises EncoderError where the encoder fails at everything, EncoderMismatch if another one filled the index.
        """
        with explained(self.index):
            return refresh(session, self.index)

    async def refresh_async(self, session: AsyncSession, /) -> Page:
        """Do the same on an AsyncSession; documents are encoded in a thread, so the event loop goes on."""
        await asyncio.to_thread(getattr, self.index.encoder, "fingerprint")  # the first may read the model
        return await run_async(self.index, session, cast("Callable[[Anything], Page]", self.refresh))

    def _search(self, text: str | Query, rerank: Rerank | None, options: Options) -> Question[Hits]:
        plan = self.plan(**options)

        def work(session: Session, query: Query, plan: Plan, watch: Watch) -> Hits:
            query, plan = self._known(session, query, _deep(plan, rerank, query), watch)
            return answer(session, self._asked(plan), query, plan, watch, self.encoder)

        finish = None if rerank is None else partial(self._ordered, rerank, plan.limit)
        return Question("search", plan, partial(self._understood, text, plan), work, finish)

    def _ordered(self, order: Rerank, limit: int, hits: Hits, query: Query, watch: Watch) -> Hits:
        """The first hits in the order of the reranker."""
        with watch.stage("rerank"):
            self._rerank(order, query, hits, watch)
        del hits[limit:]
        watch.hits, hits.degraded = len(hits), watch.degraded
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
