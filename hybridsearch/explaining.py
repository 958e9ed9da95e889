"""Why a document is where it is, or is not. Part of HybridSearch.

search.explain(session, "red chair")[0].lexical.terms[0].idf
search.why_not(session, "red chair", 17).reason
"""

from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from sqlalchemy.orm import Session

from hybridsearch.asking import Anything, Asking, AsyncAnything, Question
from hybridsearch.explain import explain
from hybridsearch.explanation import Explanation
from hybridsearch.limits import limited
from hybridsearch.missed import WhyNot, why_not
from hybridsearch.observation import Watch
from hybridsearch.options import Options, Plan, refuse
from hybridsearch.query import Query


class Explanations(list[Explanation]):
    """The explained hits, best first. `degraded` says what was left undone and why; None for a whole answer."""

    degraded: str | None = None


class Explaining(Asking):
    """The methods that explain a search; each has a form for async sessions and connections, which does the same."""

    def explain(self, connection: Anything, text: str | Query, /, **options: Unpack[Options]) -> Explanations:
        """Return the hits of a search with what their scores are made of.

        One statement, of one snapshot: raises StatementTimeout where it takes longer than the deadline, and what
        `search` raises.
        """
        return self._ask(connection, self._explain(text, options))

    async def explain_async(
        self, connection: AsyncAnything, text: str | Query, /, **options: Unpack[Options]
    ) -> Explanations:
        """Do the same on an async session or connection."""
        return await self._ask_async(connection, self._explain(text, options))

    def why_not(self, connection: Anything, text: str | Query, document: Any, /, **options: Unpack[Options]) -> WhyNot:
        """Return which stage of a search lost a document, given as an object of the model or as its key.

        Raises as `explain` does.
        """
        return self._ask(connection, self._why_not(text, document, options))

    async def why_not_async(
        self, connection: AsyncAnything, text: str | Query, document: Any, /, **options: Unpack[Options]
    ) -> WhyNot:
        """Do the same on an async session or connection."""
        return await self._ask_async(connection, self._why_not(text, document, options))

    def _explain(self, text: str | Query, options: Options) -> Question[Explanations]:
        refuse("explain", options, "snippet", "suggest")
        plan = self.plan(**options)

        def work(session: Session, query: Query, plan: Plan, watch: Watch) -> Explanations:
            query, plan = self._ready(session, query, plan, watch)
            with watch.stage("query"), limited(session, watch.left):
                found = Explanations(explain(session, self._asked(plan), query, plan))
            watch.hits, found.degraded = len(found), watch.degraded
            return found

        return Question("explain", plan, partial(self._understood, text, plan), work)

    def _why_not(self, text: str | Query, document: Any, options: Options) -> Question[WhyNot]:
        refuse("why_not", options, "snippet", "suggest")
        plan = self.plan(**options)

        def work(session: Session, query: Query, plan: Plan, watch: Watch) -> WhyNot:
            query, plan = self._ready(session, query, plan, watch)
            with watch.stage("query"), limited(session, watch.left):
                found = why_not(session, self._asked(plan), query, plan, document)
            return replace(found, degraded=watch.degraded)

        return Question("why_not", plan, partial(self._understood, text, plan), work)
