"""The formulas again, written out plainly: what the SQL is held against."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence


def rrf(legs: Mapping[str, Sequence[Hashable]], k: float = 60.0) -> dict[Hashable, float]:
    """Fuse ranked lists of keys."""
    scores: dict[Hashable, float] = {}
    for leg in legs.values():
        for rank, key in enumerate(leg, 1):
            scores[key] = scores.get(key, 0.0) + 1 / (k + rank)
    return scores


def bm25(
    query: Counter[str],
    documents: Mapping[Hashable, Mapping[str, float]],
    k1: float = 1.2,
    b: float = 0.75,
    rounded: Callable[[float], float] = float,
) -> dict[Hashable, float]:
    """Score documents, given as (weighted) term counts, by Lucene's BM25; only those that have a term of the query.

    `rounded` is what becomes of a document's own length; the average is of the true ones.
    """
    total = len(documents)
    lengths = {key: sum(counts.values()) for key, counts in documents.items()}
    average = sum(lengths.values()) / total
    scores: dict[Hashable, float] = {}
    for term, times in query.items():
        having = [key for key, counts in documents.items() if term in counts]
        idf = math.log(1 + (total - len(having) + 0.5) / (len(having) + 0.5))
        for key in having:
            frequency = documents[key][term]
            part = frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * rounded(lengths[key]) / average))
            scores[key] = scores.get(key, 0.0) + times * idf * part
    return scores


def best(scores: Mapping[Hashable, float], k: int) -> list[Hashable]:
    """Return the k best keys; ties by key."""
    return sorted(scores, key=lambda key: (-scores[key], key))[:k]
