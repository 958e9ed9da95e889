"""What an encoder is: the protocol that every encoder meets, and the value that it returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Dense = npt.NDArray[np.float32]
Sparse = Mapping[int, float]


@dataclass(frozen=True)
class Encoding:
    """The readings of n texts, in the order of the texts.

    `dense` has shape (n, dimensions), float32, every row of L2 norm 1. `sparse` holds one mapping a text from
    token id (0-based, below `sparse_dimensions`) to weight (> 0), or is None where the encoder has no sparse head.
    """

    dense: Dense
    sparse: Sequence[Sparse] | None = None

    def __len__(self) -> int:
        return len(self.dense)


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors. Thread-safe; the result of a text depends on that text alone.

    `fingerprint` changes whenever the same text would get another vector: it covers model, revision and settings.
    Vectors of different fingerprints are never compared. `dimensions` and `sparse_dimensions` are the sizes of the
    dense and sparse spaces (`sparse_dimensions` is None where there is no sparse head). `max_tokens` is the longest
    text, in the encoder's own tokens and without special ones, that is read whole; longer texts are cut.
    """

    @property
    def name(self) -> str:
        """The name that `load_encoder` knows it by."""

    @property
    def fingerprint(self) -> str:
        """Model, revision and settings, in one short string."""

    @property
    def dimensions(self) -> int:
        """Size of the dense vectors."""

    @property
    def sparse_dimensions(self) -> int | None:
        """Size of the sparse space, or None without a sparse head."""

    @property
    def max_tokens(self) -> int:
        """The longest text that is read whole, in tokens without the special ones."""

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries. An empty sequence gives an encoding of length 0."""

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents. An empty sequence gives an encoding of length 0."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the [start, end) character offsets of the text's tokens, in order, without special tokens."""
