"""How dense vectors are kept: the column's type, the operator class of its index, and the way into them.

Storage("halfvec", 384)         # 2 bytes a dimension (the default)
Storage("vector", 384)          # 4 bytes a dimension
Storage("bit", 384)             # 1 bit a dimension under HNSW; candidates scored again by the halfvec beside it
Storage("halfvec", 256)         # the first 256 dimensions of a Matryoshka model (arXiv 2205.13147)
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pgvector.sqlalchemy import BIT, HALFVEC, VECTOR
from sqlalchemy.types import UserDefinedType

from hybridsearch.errors import DeclarationError

Kind = Literal["halfvec", "vector", "bit"]

# The most dimensions under HNSW: https://github.com/pgvector/pgvector#hnsw. (A bit index may have 64,000; the halfvec
# beside it holds 16,000.)
LIMITS: dict[str, int] = {"halfvec": 4000, "vector": 2000, "bit": 16_000}


@dataclass(frozen=True)
class Storage:
    """The kind of the vectors and their dimensions, which are at most those of the encoder."""

    kind: Kind
    dimensions: int

    def __post_init__(self) -> None:
        if self.kind not in LIMITS:
            raise DeclarationError(f"storage is {self.kind!r}: give {', '.join(LIMITS)}")
        if not 1 <= self.dimensions <= LIMITS[self.kind]:
            raise DeclarationError(
                f"{self.dimensions} dimensions: {self.kind} holds 1 to {LIMITS[self.kind]} under an HNSW index"
            )

    @property
    def type(self) -> Any:
        """The type of the column `dense`."""
        return VECTOR(self.dimensions) if self.kind == "vector" else HALFVEC(self.dimensions)

    @property
    def written(self) -> "Written":
        """The type of a query's vector on its way to the server."""
        return Written(self.kind)

    @property
    def bits(self) -> BIT | None:
        """The type of the column `bits`, where there is one."""
        return BIT(self.dimensions) if self.kind == "bit" else None

    @property
    def indexed(self) -> tuple[str, str]:
        """The column under the HNSW index, and its operator class."""
        return {
            "halfvec": ("dense", "halfvec_cosine_ops"),
            "vector": ("dense", "vector_cosine_ops"),
            "bit": ("bits", "bit_hamming_ops"),
        }[self.kind]

    def fit(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cut vectors of shape (n, encoder's dimensions) to (n, dimensions), of norm 1 again."""
        if vectors.shape[1] == self.dimensions:
            return vectors
        cut = vectors[:, : self.dimensions]
        norms = np.linalg.norm(cut, axis=1, keepdims=True)
        fitted: npt.NDArray[np.float32] = (cut / np.where(norms == 0, 1, norms)).astype(np.float32)
        return fitted

    @staticmethod
    def quantise(vector: npt.NDArray[np.float32]) -> str:
        """Return one bit a dimension, 1 for a positive number, as pgvector's binary_quantize."""
        return "".join("1" if number > 0 else "0" for number in vector)


class Written(UserDefinedType[Any]):
    """A vector of shape (n,) as text, in as few digits as its numbers can be told by; text that is written passes.

    pgvector's types write each half as the double that it is, in up to 17 digits: three times the work, there and here.
    """

    cache_ok = True

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def get_col_spec(self, **_: Any) -> str:
        """Return the type's name at the server."""
        return "vector" if self.kind == "vector" else "halfvec"

    def write(self, vector: npt.NDArray[np.float32] | str) -> str:
        """Return a vector as text."""
        if isinstance(vector, str):
            return vector
        # What tells any two floats of 24 bits, or of 11, apart: https://en.wikipedia.org/wiki/IEEE_754#Character_representation
        kept, digits = (np.float32, "%.9g") if self.kind == "vector" else (np.float16, "%.5g")
        numbers = np.asarray(vector).astype(kept).tolist()
        return f"[{','.join([digits] * len(numbers)) % tuple(numbers)}]"

    def bind_processor(self, dialect: Any) -> Any:
        """Return what makes a parameter of a vector."""
        return self.write

    def literal_processor(self, dialect: Any) -> Any:
        """Return what makes a literal of a vector."""
        return lambda vector: f"'{self.write(vector)}'"
