"""The formula of the lexical leg, its parameters, and which engine computes it how."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from hybridsearch.errors import DeclarationError

Idf = Literal["lucene", "okapi"]
EngineName = Literal["sql", "memory", "pg_textsearch"]


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


def checked_engine(index: str, engine: str, bm25: BM25, fields: Mapping[str, float]) -> EngineName:
    """Return the engine; raise DeclarationError for one that there is not, or that cannot compute what is declared."""
    if engine not in get_args(EngineName):
        raise DeclarationError(
            f'index "{index}": no engine is called {engine!r}; there are {", ".join(get_args(EngineName))}, and "auto"'
        )
    if bm25.idf == "okapi" and engine == "pg_textsearch":
        raise DeclarationError(f'index "{index}": the engine "pg_textsearch" has idf "lucene" alone')
    if engine == "pg_textsearch":
        if not 0.1 <= bm25.k1 <= 10:
            raise DeclarationError(f'index "{index}": pg_textsearch takes a k1 from 0.1 to 10, not {bm25.k1}')
        for name, weight in fields.items():
            if weight != int(weight):
                raise DeclarationError(
                    f'index "{index}": pg_textsearch counts words, so the weight of {name!r} has to be a whole number, '
                    f"not {weight}"
                )
    return cast(EngineName, engine)
