"""Small encoders of the tests' own: real ones by the protocol, without a model."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from hybridsearch import Encoding


class WordHashEncoder:
    """A bag of words, each word a fixed random direction: texts that share words are near. Deterministic."""

    name = "word-hash"
    sparse_dimensions: int | None = None
    max_tokens = 128

    def __init__(self, dimensions: int = 32, revision: str = "1") -> None:
        self.dimensions = dimensions
        self.fingerprint = f"word-hash:{dimensions}:{revision}"
        self.encoded: list[str] = []
        """Every text that was encoded as a document, in order."""

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        rows = [self._vector(text) for text in texts]
        return Encoding(np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions))

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        self.encoded += texts
        return self.encode_queries(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]

    def _vector(self, text: str) -> np.ndarray:
        total = np.zeros(self.dimensions)
        for word in re.findall(r"\w+", text.lower()) or [""]:
            seed = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big")
            total += np.random.default_rng(seed).standard_normal(self.dimensions)
        return total / np.linalg.norm(total)


class SparseWordHashEncoder(WordHashEncoder):
    """Words as sparse tokens too, of weight 1."""

    name = "word-hash-sparse"
    sparse_dimensions: int | None = 1000

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        sparse = [{_token(word): 1.0 for word in text.lower().split()} for text in texts]
        return Encoding(super().encode_queries(texts).dense, sparse)


def _token(word: str) -> int:
    return sum(ord(character) * 31**place for place, character in enumerate(word)) % 1000


class BrokenEncoder(WordHashEncoder):
    """Works until `broken` is set, then fails in that way: "raises", "nan", "count", "dimensions", "no array"."""

    def __init__(self, broken: str | None = None) -> None:
        super().__init__()
        self.broken = broken

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        good = super().encode_queries(texts).dense
        if self.broken == "raises":
            raise ZeroDivisionError("the model fell over\non its second line")
        broken = {
            "nan": good * np.float32("nan"),
            "count": good[1:],
            "dimensions": good[:, 1:],
            "no array": None,
        }
        return Encoding(broken.get(self.broken, good))


BREAKAGES = ["raises", "nan", "count", "dimensions", "no array"]
