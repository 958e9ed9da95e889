"""What goes over the wire."""

from decimal import Decimal
from typing import Any, Self

from pydantic import BaseModel, Field

from hybridsearch import Hit, Hits
from hybridsearch.explanation import Explanation


class Found(BaseModel):
    """A product, and why it is where it is."""

    id: int = Field(examples=[1586412])
    title: str = Field(examples=["HP Slim Laptop Bag"])
    brand: str = Field(examples=["HP"])
    price: Decimal = Field(examples=["48.95"])
    score: float = Field(description="To be compared within one answer only", examples=[0.0328])
    ranks: dict[str, int] = Field(
        description="Its place in each list that has it: by meaning (dense), by words (lexical)",
        examples=[{"dense": 1, "lexical": 1}],
    )
    snippet: str | None = Field(
        description="HTML: escaped, the matches in <mark>",
        examples=["Slim <mark>laptop</mark> <mark>bag</mark>, black"],
    )

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
    """The products, best first."""

    hits: list[Found]
    suggestion: str | None = Field(description="Did you mean?", examples=["laptop bag"])
    degraded: bool = Field(
        description="Whether a part of the search was left out; the log says which", examples=[False]
    )

    @classmethod
    def of(cls, hits: Hits) -> Self:
        return cls(hits=[Found.of(hit) for hit in hits], suggestion=hits.suggestion, degraded=hits.degraded is not None)


class Why(BaseModel):
    """What a score is made of: shares of the lists add up to it, terms to the score by words."""

    rank: int = Field(examples=[1])
    key: dict[str, int] = Field(examples=[{"id": 1586412}])
    score: float = Field(examples=[0.0164])
    legs: dict[str, dict[str, Any]] = Field(
        examples=[
            {"lexical": {"rank": 1, "score": 5.39, "weight": 1.0, "share": 0.0164, "arithmetic": "1.0 / (60.0 + 1)"}}
        ]
    )
    boosts: dict[str, float] = Field(examples=[{}])
    dense: dict[str, float] | None = Field(examples=[None])
    lexical: dict[str, Any] | None = Field(
        examples=[{"score": 5.39, "terms": [{"term": "laptop", "frequency": 2.0, "idf": 3.23, "score": 5.39}]}]
    )

    @classmethod
    def of(cls, explanation: Explanation) -> Self:
        return cls.model_validate(explanation.to_dict())


class Counted(BaseModel):
    """How many products have a value, or lie in a range from its first number to below its second."""

    value: Any = Field(examples=["HP"])
    count: int = Field(examples=[12])


class Problem(BaseModel):
    """What every answer holds that is not a 200."""

    error: str = Field(examples=["q: String should have at least 1 character"])
