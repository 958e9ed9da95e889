"""What goes over the wire."""

from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel

from hybridsearch import Hit, Hits


class Found(BaseModel):
    id: int
    title: str
    brand: str
    price: Decimal
    score: float
    ranks: dict[str, int]
    snippet: str | None
    """HTML: escaped, the matches in <mark>."""

    @classmethod
    def of(cls, hit: Hit) -> Self:
        product = hit.document
        return cls(
            id=product.id,
            title=product.title,
            brand=product.brand,
            price=product.price,
            score=hit.score,
            ranks=dict(hit.ranks),
            snippet=None if hit.snippet is None else str(hit.snippet),
        )


class Answer(BaseModel):
    hits: list[Found]
    suggestion: str | None
    """Did you mean?"""
    degraded: bool
    """Whether a part of the search was left out; the log says which."""

    @classmethod
    def of(cls, hits: Hits) -> Self:
        return cls(hits=[Found.of(hit) for hit in hits], suggestion=hits.suggestion, degraded=hits.degraded is not None)


class Counted(BaseModel):
    value: Any
    count: int


class Problem(BaseModel):
    error: str
