"""Why a document has its score: the arithmetic of a hit, as plain values. Pure: no I/O.

    found = search.explain(session, "red chair")[0]
    found.lexical.terms[0].idf, found.legs["dense"].share
    found.to_dict()                 # for JSON

What adds up: the terms' scores to the score of the lexical leg, the tokens' products to that of the sparse leg, the
legs' shares, times the factors of the boosts, to the fused score.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from hybridsearch.bm25 import BM25, lucene_idf
from hybridsearch.fusion import Fusion


@dataclass(frozen=True)
class TermPart:
    """What one term of the query brings to the BM25 score of a document.

    `times` it occurs in the query, `frequency` (weighted by field) in the document, in `documents` of all documents
    (None where row-level security hides some of them).
    `score` is times · idf · saturation, where saturation = frequency · (k1 + 1) / (frequency + length_part).
    """

    term: str
    times: int
    frequency: float
    documents: int | None
    idf: float
    length_part: float
    saturation: float
    score: float


@dataclass(frozen=True)
class LexicalPart:
    """The BM25 score of a document: `score` of the leg, and its terms, which add up to it.

    `length` counts the document's words (weighted by field), `average_length` those of all `documents`. Where row-level
    security hides some of these from the role, they are not counted: `documents` is None, there and in the terms.
    `idf` and `average_length` stay, since without them nothing adds up: they are ratios, of all rows.
    `current` is False where the terms do not add up: the row has changed since its words were indexed, or the engine
    counts documents that are gone (pg_textsearch).
    """

    score: float
    terms: tuple[TermPart, ...]
    length: float
    average_length: float
    documents: int | None
    k1: float
    b: float
    current: bool

    def without_counts(self) -> Self:
        """Return the same for a role that may not know how many documents there are."""
        return replace(self, documents=None, terms=tuple(replace(term, documents=None) for term in self.terms))


@dataclass(frozen=True)
class TokenPart:
    """One token that query and chunk share, with its two weights. `score` is their product."""

    token: int
    query_weight: float
    weight: float
    score: float


@dataclass(frozen=True)
class SparsePart:
    """The score of the sparse leg, and the tokens of the document's best chunk, which add up to it (in float4)."""

    score: float
    tokens: tuple[TokenPart, ...]


@dataclass(frozen=True)
class DensePart:
    """The cosine distance of the document's nearest chunk, 0 to 2."""

    distance: float


@dataclass(frozen=True)
class LegPart:
    """A leg's part in the fused score: the document's `rank` from 1 and `score` there, and the `share` they bring.

    `weight` is the leg's own, `arithmetic` the formula of the share with its numbers in it.
    """

    rank: int
    score: float
    weight: float
    share: float
    arithmetic: str


@dataclass(frozen=True)
class Explanation:
    """Why a document stands where it stands: `score` is the sum of the legs' shares times the factors of all boosts.

    A leg that does not have the document is missing. A sum below 0 is divided by the factors.
    """

    rank: int
    key: Mapping[str, Any]
    document: Any
    score: float
    legs: Mapping[str, LegPart]
    boosts: Mapping[str, float]
    dense: DensePart | None
    sparse: SparsePart | None
    lexical: LexicalPart | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; without the document."""
        parts = {"dense": self.dense, "sparse": self.sparse, "lexical": self.lexical}
        return {
            "rank": self.rank,
            "key": dict(self.key),
            "score": self.score,
            "legs": {name: asdict(leg) for name, leg in self.legs.items()},
            "boosts": dict(self.boosts),
            **{name: None if part is None else asdict(part) for name, part in parts.items()},
        }


@dataclass(frozen=True)
class Asked:
    """A term of the query in the snapshot: how often it is asked for, and in how many documents it is."""

    term: str
    times: int
    documents: int


@dataclass(frozen=True)
class Statistics:
    """Of the whole index, in the snapshot: `documents`, their average length, and the parameters of BM25.

    `average_idf` is that of Okapi's over all terms, 0 where no term of the query needs it.
    """

    documents: int
    average_length: float
    parameters: BM25
    average_idf: float = 0.0

    def idf(self, having: int) -> float:
        """Return the idf of a term in so many documents."""
        having = min(having, self.documents)
        if self.parameters.idf == "lucene":
            return lucene_idf(self.documents, having)
        idf = math.log((self.documents - having + 0.5) / (having + 0.5))
        return idf if idf >= 0 else self.parameters.epsilon * self.average_idf


def bm25(
    score: float,
    length: float,
    frequencies: Mapping[str, float],
    asked: tuple[Asked, ...],
    statistics: Statistics,
    tolerance: float = 1e-9,
) -> LexicalPart:
    """Return the parts of a BM25 score, the largest first. `frequencies` maps the document's terms.

    `tolerance` is how far, relatively, an engine's own sum may lie from theirs.
    """
    k1, b = statistics.parameters.k1, statistics.parameters.b
    length_part = k1 * (1 - b + b * length / statistics.average_length)
    parts = (_term(term, frequencies[term.term], length_part, statistics) for term in asked if term.term in frequencies)
    terms = tuple(sorted(parts, key=lambda part: (-part.score, part.term)))
    total = math.fsum(part.score for part in terms)
    return LexicalPart(
        score=score,
        terms=terms,
        length=length,
        average_length=statistics.average_length,
        documents=statistics.documents,
        k1=k1,
        b=b,
        current=math.isclose(total, score, rel_tol=tolerance, abs_tol=1e-12),
    )


def _term(asked: Asked, frequency: float, length_part: float, statistics: Statistics) -> TermPart:
    idf = statistics.idf(asked.documents)
    saturation = frequency * (statistics.parameters.k1 + 1) / (frequency + length_part)
    return TermPart(
        term=asked.term,
        times=asked.times,
        frequency=frequency,
        documents=asked.documents,
        idf=idf,
        length_part=length_part,
        saturation=saturation,
        score=asked.times * idf * saturation,
    )


def inner_product(score: float, query: Mapping[int, float], weights: Mapping[int, float]) -> SparsePart:
    """Return the tokens that both have, the largest product first."""
    shared = (
        TokenPart(token, float(weight), weights[token], float(weight) * weights[token])
        for token, weight in query.items()
        if token in weights
    )
    return SparsePart(score, tuple(sorted(shared, key=lambda part: (-part.score, part.token))))


@dataclass(frozen=True)
class Spread:
    """Of the distances of a leg's candidates: the first, the last, their mean and standard deviation."""

    first: float
    last: float
    mean: float
    deviation: float


def arithmetic(fusion: Fusion, rank: int, distance: float, weight: float, k: float, spread: Spread | None) -> str:
    """Return a leg's share as the formula with its numbers in it, in Python's notation."""
    if fusion == "rrf":
        return f"{weight!r} / ({k!r} + {rank})"
    if fusion == "leg" or spread is None:
        return f"{-distance!r}"
    if fusion == "minmax":
        width = f"({spread.last!r} - {spread.first!r})"
        return (
            f"{weight!r} * ({spread.last!r} - {distance!r}) / {width}" if spread.last > spread.first else f"{weight!r}"
        )
    if not spread.deviation:
        return f"{weight!r} * 0.5"
    return f"{weight!r} * max(({spread.mean!r} - {distance!r}) / (6 * {spread.deviation!r}) + 0.5, 0)"
