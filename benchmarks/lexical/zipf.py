"""Zipf text of any size, and queries for it: no topics, so no document is near another and nothing clusters.

    from zipf import documents, queries
    for number, text in documents(1_000_000): ...
    for words in queries(200): ...

Rank r has probability proportional to 1 / (r + 3) over 500,000 words; a text has 64 words on average (gamma, shape 4),
60 of them different. The first n documents are the same whatever the scale. Query words are drawn log-uniformly by
rank: 2 to 6 of them have about 50,000 postings on average in 1,000,000 documents.
"""

from collections.abc import Iterator

import numpy as np

VOCABULARY = 500_000
MEAN_LENGTH = 64.5
SHAPE = 4.0
BLOCK = 10_000
QUERY_RANKS = (65, 50_000)


def word(rank: int) -> str:
    """Return a word of letters alone: analysers treat digits in their own ways."""
    letters = ""
    while rank:
        rank, letter = divmod(rank - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return "w" + letters


def documents(count: int, *, seed: int = 1) -> Iterator[tuple[int, str]]:
    """Yield (number from 0, text)."""
    cumulative = np.cumsum(1.0 / (np.arange(VOCABULARY) + 4.0))
    cumulative /= cumulative[-1]
    words = [word(rank) for rank in range(1, VOCABULARY + 1)]
    for start in range(0, count, BLOCK):
        rng = np.random.default_rng([seed, start])
        lengths = np.maximum(1, rng.gamma(SHAPE, MEAN_LENGTH / SHAPE, BLOCK)).astype(np.int64)
        ranks = np.searchsorted(cumulative, rng.random(int(lengths.sum())))
        ends = np.cumsum(lengths)
        for offset in range(min(BLOCK, count - start)):
            drawn = ranks[ends[offset] - lengths[offset] : ends[offset]]
            yield start + offset, " ".join([words[rank] for rank in drawn])


def queries(count: int, *, terms: tuple[int, int] = (2, 6), seed: int = 2) -> Iterator[list[str]]:
    """Yield lists of different words, `terms` (least, most) of them."""
    rng = np.random.default_rng(seed)
    low, high = np.log(QUERY_RANKS)
    for _ in range(count):
        size = int(rng.integers(terms[0], terms[1] + 1))
        drawn: dict[int, None] = {}
        while len(drawn) < size:
            drawn[int(np.exp(rng.uniform(low, high)))] = None
        yield [word(rank) for rank in drawn]
