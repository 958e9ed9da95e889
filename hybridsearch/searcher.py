"""Search an index: from text to ranked objects.

search = HybridSearch(articles)
hits = search.search(session, "forgot my password", limit=10, where=Article.lang == "en")
hits = await search.search_async(async_session, "forgot my password")
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Select, literal, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, aliased

from hybridsearch.database import connecting, explained
from hybridsearch.dense import distance_to
from hybridsearch.encoders import Encoder
from hybridsearch.encoders.cache import LRU, QueryCache
from hybridsearch.encoding import work_of
from hybridsearch.fusion import rank_name
from hybridsearch.model import SearchIndex
from hybridsearch.query import Plan, Query, checked_count, checked_text, ranking
from hybridsearch.rerank import Scorer
from hybridsearch.rerank import rerank as reordered
from hybridsearch.settings import Settings, from_environment
from hybridsearch.state import check_encoder
from hybridsearch.template import as_text


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


@dataclass(frozen=True)
class Rerank:
    """Read the first `top` texts with a `scorer` and order them anew; after `timeout` seconds the fused order stays."""

    scorer: Scorer
    top: int = 50
    timeout: float | None = None
    batch: int = 32


class HybridSearch:
    """Searches one index. Make it once and share it between threads; the encoder is loaded at its first use.

    `store` keeps the encodings of recent queries: an LRU of this process by default, a SharedStore for all of them.
    """

    def __init__(
        self,
        index: SearchIndex,
        *,
        encoder: Encoder | None = None,
        settings: Settings | None = None,
        store: LRU | None = None,
    ) -> None:
        self.index = index
        self.encoder = encoder or index.encoder
        self.settings = settings or from_environment()
        self._cache = QueryCache(self.encoder, store=store)

    def encode(self, text: str) -> Query:
        """Check the text and encode it.

        Raises QueryError for what cannot be searched for, EncoderError from the encoder.
        """
        text = checked_text(text, self.settings.max_query_length)
        with work_of(self.encoder):
            encoding = self._cache.encode(text)
        return Query(text, self.index.storage.fit(encoding.dense[np.newaxis])[0], encoding.sparse)

    def select(
        self,
        text: str | Query,
        *,
        limit: int = 10,
        candidates: int | None = None,
        where: ColumnElement[bool] | None = None,
        legs: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> Select[Any]:
        """Return the ranking as a Select of the key columns, `score` and `rank_<leg>`, to join and filter further.

        `candidates`, 1 to 1,000, is what each leg hands to the fusion (at least the limit), `where` a condition on the
        model that acts inside every leg.
        """
        limit = checked_count("limit", limit)
        candidates = checked_count("candidates", self.settings.candidates if candidates is None else candidates)
        query = text if isinstance(text, Query) else self._query(text, legs)
        plan = Plan(
            candidates=max(limit, candidates),
            ef_search=self.settings.ef_search,
            rrf_k=self.settings.rrf_k,
            legs=self.index.legs if legs is None else legs,
            weights=weights,
            where=where,
        )
        return ranking(self.index, query, plan).limit(limit)

    def search(
        self, session: Session, text: str | Query, /, *, limit: int = 10, rerank: Rerank | None = None, **options: Any
    ) -> Hits:
        """Return the best documents, best first. Options as for `select`; reads only, in the caller's transaction.

        With `rerank` the first hits are read and ordered anew; where that fails or takes too long, the fused order is
        returned and `degraded` says why.
        """
        query = text if isinstance(text, Query) else self._query(text, options.get("legs"))
        wanted = checked_count("limit", limit)
        found = wanted if rerank is None else max(wanted, checked_count("rerank top", rerank.top))
        statement = self._documents(self.select(query, limit=found, **options), query)
        with explained(self.index):
            check_encoder(session, self.index, self.encoder)
            hits = Hits(_hit(row) for row in session.execute(statement))
        if rerank is not None:
            hits = self._reranked(rerank, query, hits)
        del hits[wanted:]
        return hits

    async def search_async(self, session: AsyncSession, text: str | Query, /, **options: Any) -> Hits:
        """Do the same on an AsyncSession; the text is encoded in a thread, so the event loop goes on."""
        query = text if isinstance(text, Query) else await asyncio.to_thread(self._query, text, options.get("legs"))
        with explained(self.index), connecting():
            await session.connection(bind_arguments={"mapper": self.index.mapper})
        return await session.run_sync(self.search, query, **options)

    def _query(self, text: str, legs: Sequence[str] | None) -> Query:
        if legs is None or set(legs) - {"lexical"}:
            return self.encode(text)
        return Query(checked_text(text, self.settings.max_query_length))

    def _reranked(self, order: Rerank, query: Query, hits: Hits) -> Hits:
        def text(hit: Hit) -> str:
            fields = (as_text(getattr(hit.document, name)) for name in self.index.fields)
            return hit.chunk.text if hit.chunk is not None else "\n".join(filter(None, fields))

        done = reordered(order.scorer, query.text, hits, text=text, timeout=order.timeout, batch=order.batch)
        scores: Sequence[float | None] = done.scores or [None] * len(done.items)
        reranked = Hits(replace(hit, rerank_score=score) for hit, score in zip(done.items, scores, strict=True))
        reranked.degraded = None if done.reason is None else f"not reranked: {done.reason}"
        return reranked

    def _documents(self, ranking: Select[Any], query: Query) -> Select[Any]:
        """The ranking with the model's objects, and each one's nearest chunk."""
        index, fused = self.index, ranking.cte("ranking")
        chunks = index.chunks
        order: list[ColumnElement[Any]] = [chunks.c.ordinal]
        if query.dense is not None:
            # The sum keeps the planner off the HNSW index, whose scan could end before it meets this document.
            order = [literal(0.0) + distance_to(index, query.dense), *order]
        nearest = select(chunks).where(index.same_row(chunks)).order_by(*order).limit(1).lateral("nearest")
        chunk = aliased(index.Chunk, nearest)
        return (
            select(index.model, chunk, *(column for column in fused.c if column.name not in index.key_names))
            .join_from(fused, index.model, index.same_row(fused))
            .outerjoin(nearest, true())
            .order_by(fused.c.score.desc(), *index.keys)
        )


def _hit(row: Any) -> Hit:
    prefix = rank_name("")
    ranks = {str(name): rank for name, rank in row._mapping.items() if rank is not None}
    legs = {name.removeprefix(prefix): rank for name, rank in ranks.items() if name.startswith(prefix)}
    return Hit(document=row[0], score=row.score, ranks=legs, chunk=row[1])
