"""The formula of the lexical leg, and its parameters."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hybridsearch.errors import DeclarationError

Idf = Literal["lucene", "okapi"]


@dataclass(frozen=True)
class BM25:
    """Parameters of BM25: saturation of term frequency (`k1`, from 0), length normalisation (`b`, 0 to 1), the `idf`.

    A document's score is the sum over the query's terms of
    idf · tf · (k1 + 1) / (tf + k1 (1 - b + b · length / average)). For a term in n of N documents, idf is

    - "lucene": ln(1 + (N - n + 0.5) / (n + 0.5)), always above 0 (Robertson & Zaragoza, 2009);
    - "okapi": ln((N - n + 0.5) / (n + 0.5)), and where that is below 0, `epsilon` times its average over all terms of
      the index: `rank_bm25.BM25Okapi`, whose own k1 is 1.5.
    """

    k1: float = 1.2
    b: float = 0.75
    idf: Idf = "lucene"
    epsilon: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < float("inf"):
            raise DeclarationError(f"BM25 k1 is {self.k1}: give a number from 0 up")
        if not 0 <= self.b <= 1:
            raise DeclarationError(f"BM25 b is {self.b}: give a number from 0 to 1")
        if self.idf not in get_args(Idf):
            raise DeclarationError(f"BM25 idf is {self.idf!r}: it is one of {', '.join(get_args(Idf))}")
        if not 0 <= self.epsilon < float("inf"):
            raise DeclarationError(f"BM25 epsilon is {self.epsilon}: give a number from 0 up")


def lucene_idf(documents: int, having: int) -> float:
    """Return Lucene's idf of a term in `having` of `documents` documents."""
    return math.log(1 + (documents - having + 0.5) / (having + 0.5))
