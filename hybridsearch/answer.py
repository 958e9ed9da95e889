"""Answer one search on a session: the documents, and what is said beside them.

answer(session, index, query, plan)         # Hits
"""

from sqlalchemy.orm import Session

from hybridsearch.highlight import highlighted
from hybridsearch.hits import Hits, documents, hit_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import leg_names, ranking
from hybridsearch.suggestion import suggest


def answer(session: Session, index: SearchIndex, query: Query, plan: Plan) -> Hits:
    """Return the hits of a query whose engine has read what it needs."""
    statement = documents(index, ranking(index, query, plan).limit(plan.limit), query)
    hits = Hits(hit_of(row) for row in session.execute(statement))
    if _asks_for_a_suggestion(index, query, plan, hits):
        hits.suggestion = suggest(session, index, query, plan, hits)
    if plan.snippet is not None:
        hits[:] = highlighted(session, index, query, hits, plan.snippet)
    return hits


def _asks_for_a_suggestion(index: SearchIndex, query: Query, plan: Plan, hits: Hits) -> bool:
    if plan.suggest is not None or "lexical" not in leg_names(index, query, plan):
        return bool(plan.suggest)
    return sum("lexical" in hit.ranks for hit in hits) < plan.limit
