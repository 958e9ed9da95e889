"""One way from a call to its answer, for all that an index is asked: understood, watched, and done on a session.

    question = Question("search", plan, understand, work)
    self._ask(connection, question)                     # a Session or Connection
    await self._ask_async(connection, question)         # their async forms; what may take long happens in threads

Where the encoder fails or is too slow, the words alone are asked, and the watch knows. HybridSearch is made of it.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar, Unpack

import numpy as np
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from hybridsearch.database import explained
from hybridsearch.encoders import Encoder
from hybridsearch.encoders.cache import LRU, QueryCache, QueryEncoding
from hybridsearch.encoding import work_of
from hybridsearch.engines import engine_of
from hybridsearch.errors import EncoderError, EncoderMismatch, StatementTimeout
from hybridsearch.limits import limited
from hybridsearch.model import SearchIndex
from hybridsearch.observation import SearchRecord, Watch, watching
from hybridsearch.options import Options, Plan, plan
from hybridsearch.patience import Patience
from hybridsearch.query import Query, checked, checked_text
from hybridsearch.ranking import compares, leg_names
from hybridsearch.sessions import run_async, session_of
from hybridsearch.settings import Settings, Syntax, from_environment
from hybridsearch.state import check_encoder
from hybridsearch.syntax import Parsed, parse

logger = logging.getLogger(__name__)

Anything = Session | Connection
AsyncAnything = AsyncSession | AsyncConnection
Result = TypeVar("Result")


@dataclass(frozen=True)
class Question(Generic[Result]):
    """A call of a `method`, in steps: `understand` needs no database, `work` a session, `finish` the result alone.

    The outer two may take long, in the encoder or the reranker: an event loop leaves them to threads.
    """

    method: str
    plan: Plan
    understand: Callable[[Watch], tuple[Query, Plan]]
    work: Callable[[Session, Query, Plan, Watch], Result]
    finish: Callable[[Result, Query, Watch], Result] | None = None


class Asking:
    """What the methods of HybridSearch have in common."""

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
        return self._with(query, self._encoding(query))

    def query(self, text: str | Query, legs: Sequence[str] | None = None) -> Query:
        """Return what is searched for in the legs: a text is encoded unless only its words are needed."""
        if isinstance(text, Query):
            return checked(self.index, text, self.settings.max_query_length)
        if legs is None or set(legs) - {"lexical"}:
            return self.encode(text)
        return self._words(text)

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

    def _ask(self, connection: Anything, question: Question[Result]) -> Result:
        with self._watching(question) as watch:
            query, plan = question.understand(watch)
            result = self._done(connection, question, query, plan, watch)
            return result if question.finish is None else question.finish(result, query, watch)

    async def _ask_async(self, connection: AsyncAnything, question: Question[Result]) -> Result:
        with self._watching(question) as watch:
            query, plan = await asyncio.to_thread(question.understand, watch)
            done = partial(self._done, question=question, query=query, plan=plan, watch=watch)
            result = await run_async(self.index, connection, done)
            return result if question.finish is None else await asyncio.to_thread(question.finish, result, query, watch)

    def _watching(self, question: Question[Any]) -> AbstractContextManager[Watch]:
        plan = question.plan
        options = {"limit": plan.limit, "candidates": plan.candidates, "fusion": plan.fusion}
        return watching(self.index.name, plan.deadline, self._on_search, question.method, **options)

    def _done(self, connection: Anything, question: Question[Result], query: Query, plan: Plan, watch: Watch) -> Result:
        with explained(self.index), session_of(connection) as session:
            return question.work(session, query, plan, watch)

    def _understood(self, text: str | Query, plan: Plan, watch: Watch) -> tuple[Query, Plan]:
        """What is searched for. Where the encoder fails or takes too long, the words, if they were to be searched."""
        if isinstance(text, Query) or plan.legs == ("lexical",):
            query = self.query(text, plan.legs)
            if compares(self.index, query, plan):
                with work_of(self.encoder):
                    self._cache.fingerprint()  # is compared with the index's; the first may read the model
            return query, plan
        words = self._words(text)
        try:
            with watch.stage("encode"):  # the other half of the time is the database's
                query = self._with(words, self._encoding(words, watch.left and watch.left / 2))
        except EncoderError as error:
            worded = "lexical" in (plan.legs or self.index.legs) and plan.weights["lexical"] > 0
            if isinstance(error, EncoderMismatch) or not worded:
                raise
            logger.warning("answered by words alone: %s", error)
            watch.lose("encode", f"answered by words alone: {error}")
            query, plan = words, replace(plan, legs=("lexical",))
        leg_names(self.index, query, plan)  # what cannot be answered is refused before the server is asked
        return query, plan

    def _at_hand(self, text: str | Query, plan: Plan, watch: Watch) -> tuple[Query, Plan]:
        """What is searched for without asking the encoder: the words, and their vectors where they are remembered."""
        if isinstance(text, Query):
            return self.query(text), plan
        words = self._words(text)
        found = self._cache.near(words.text or "")
        return (words if found is None else self._with(words, found)), plan

    def _words(self, text: str, syntax: Syntax | None = None) -> Query:
        """The text without its operators, and those."""
        text = checked_text(text, self.settings.max_query_length)
        parsed = parse(text) if (syntax or self.settings.syntax) == "web" else Parsed(text)
        return Query(parsed.words, parsed=parsed)

    def _encoding(self, words: Query, seconds: float | None = None) -> QueryEncoding:
        """What the encoder makes of the words, in so many seconds; from the cache before anything is asked."""
        text = words.text or ""

        def encode() -> QueryEncoding:
            with work_of(self.encoder):
                return self._cache.encode(text)

        def kept() -> QueryEncoding | None:
            with work_of(self.encoder):
                return self._cache.get(text)

        found = self._cache.near(text)
        return found or self._patience.ask(seconds, encode, f'encoder "{self.encoder.name}"', kept)

    def _with(self, words: Query, encoding: QueryEncoding) -> Query:
        return replace(words, dense=self.index.storage.fit(encoding.dense[np.newaxis])[0], sparse=encoding.sparse)

    def _asked(self, plan: Plan | None) -> SearchIndex:
        """The index, as the plan's configuration analyses queries."""
        return self.index if plan is None or plan.config is None else self.index.asked_in(plan.config)

    def _ready(self, session: Session, query: Query, plan: Plan, watch: Watch) -> tuple[Query, Plan]:
        """What is searched for, with what its legs have to know of the database beforehand.

        Raises EncoderMismatch for vectors of another encoder than the index's, and as `_known` does.
        """
        if compares(self.index, query, plan):
            with limited(session, watch.left):
                check_encoder(session, self.index, self.encoder)
        return self._known(session, query, plan, watch)

    def _known(self, session: Session, query: Query, plan: Plan, watch: Watch) -> tuple[Query, Plan]:
        """What is searched for, with what its engine has to read of the rows beforehand.

        Where that takes too long, without the words, if they are not all. Raises StatementTimeout.
        """
        names = leg_names(self.index, query, plan)
        if self.index.engine != "memory" or ("lexical" not in names and not plan.suggest):
            return query, plan
        try:
            share = 0.5 if len(names) > 1 else 1.0  # the other half is for the other legs
            with limited(session, watch.left and watch.left * share):
                return self.read(session, query, plan), plan
        except StatementTimeout as error:
            rest = tuple(name for name in names if name != "lexical")
            if not rest:
                raise
            watch.lose("leg lexical", f"leg lexical left out: {error}")
            return query, replace(plan, legs=rest, suggest=False)
