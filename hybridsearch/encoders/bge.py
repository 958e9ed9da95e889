"""BGE-M3: one model, three readings of a text (https://arxiv.org/abs/2402.03216).

    encoder = BgeM3Encoder()                              # the hub's BAAI/bge-m3, by FlagEmbedding
    encoder = BgeM3Encoder("/models/bge-m3-onnx", backend="onnx")
    encoder.encode_documents(["a red chair"]).sparse      # [{6: 0.08, 4602: 0.19, …}]

This module cuts texts into tokens and batches and reads what comes out; the model runs in `bge_torch` or `bge_onnx`.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders import bge_onnx, bge_torch
from hybridsearch.encoders.base import Dense, Encoding, Sparse
from hybridsearch.encoders.batching import pad, plan
from hybridsearch.encoders.bge_model import Description, Dtype, Heads, Model
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.sparse import pool
from hybridsearch.encoders.text import clean, spans_in_pieces
from hybridsearch.errors import ConfigurationError, EncoderError

Backend = Literal["torch", "onnx"]


class BgeM3Encoder:
    """BGE-M3: a dense vector, a weight for each term, and on request a vector for each token; loaded at first use.

    `model` is a name of the model hub or a folder; for `backend="onnx"` the folder that `export_onnx` wrote. `device`
    is one of torch's ("cpu", "cuda:0"; None takes a GPU if there is one). `dtype` "auto" is float16 on CUDA, float32
    elsewhere: on a CPU half precision is slower and less accurate, and refused. `max_length` counts the two special
    tokens. `batch_tokens` is the size of a batch in tokens with padding, None for what suits the device.

    The fingerprint does not tell float16 from float32, nor torch from ONNX: their vectors differ by less than the
    `halfvec` that keeps them, so that a GPU can fill an index which a CPU queries. It does tell int8.

    Raises MissingDependency without the extra `bge` (or `onnx`), ConfigurationError for options that do not go
    together, and EncoderError when the model is missing, incomplete, or too large for the memory.
    """

    name = "bge-m3"

    def __init__(
        self,
        model: str = "BAAI/bge-m3",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int = 8192,
        batch_tokens: int | None = None,
        backend: Backend = "torch",
    ) -> None:
        if backend not in ("torch", "onnx"):
            raise ConfigurationError(f'bge-m3 has no backend "{backend}": choose "torch" or "onnx"')
        if backend == "onnx" and (revision or device or dtype != "auto"):
            raise ConfigurationError('revision, device and dtype belong to backend="torch": an ONNX export is one file')
        if max_length < 3:
            raise ConfigurationError(f"max_length is {max_length}: two tokens are special, so 3 is the least")
        self._model_name, self._revision, self._backend = model, revision, backend
        self._device, self._dtype = device, dtype
        self._max_length, self._batch_tokens = max_length, batch_tokens
        self._description: Once[Description] = Once(self._describe)
        self._model: Once[Model] = Once(self._load)

    @property
    def dimensions(self) -> int:
        """Size of the dense vectors; reads the model's configuration, not its weights."""
        return self._description().dimensions

    @property
    def sparse_dimensions(self) -> int | None:
        """Size of the model's vocabulary."""
        return self._description().vocabulary

    @property
    def max_tokens(self) -> int:
        """Max_length without the two special tokens."""
        return self._max_length - 2

    @cached_property
    def fingerprint(self) -> str:
        """Model, its revision or the hash of its files, max_length, pooling, class of precision."""
        known = self._description()
        return f"bge-m3:{known.identity}:{self._max_length}:cls:{known.precision}"

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries; BGE-M3 wants no instruction."""
        return self.encode_documents(texts)

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents."""
        dense = np.empty((len(texts), self.dimensions), dtype=np.float32)
        sparse: list[Sparse] = [{} for _ in texts]
        special = self._model().special if texts else ()
        for batch, ids, mask, heads in self._batches(texts, tokens=False):
            dense[batch] = heads.dense
            for row, position in enumerate(batch):
                length = int(mask[row].sum())
                sparse[position] = pool(ids[row, :length], heads.weights[row, :length], without=special)
        return Encoding(dense, sparse)

    def token_vectors(self, texts: Sequence[str]) -> list[Dense]:
        """Return for each text its (tokens + 1, dimensions) vectors of norm 1, that of </s> being the last."""
        vectors: list[Dense] = [np.empty((0, self.dimensions), dtype=np.float32) for _ in texts]
        for batch, _, mask, heads in self._batches(texts, tokens=True):
            assert heads.tokens is not None
            for row, position in enumerate(batch):
                vectors[position] = heads.tokens[row, : int(mask[row].sum()) - 1]
        return vectors

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the [start, end) character offsets of the text's pieces."""
        tokenizer = self._model().tokenizer
        return spans_in_pieces(clean(text), lambda piece: tokenizer.encode(piece, add_special_tokens=False).offsets)

    def _batches(
        self, texts: Sequence[str], *, tokens: bool
    ) -> Iterator[tuple[list[int], npt.NDArray[np.int64], npt.NDArray[np.int64], Heads]]:
        """Yield the texts' positions, their token ids and mask, and what the model makes of them."""
        if not texts:
            return
        model = self._model()
        start, padding, end, _ = model.special
        encoded = model.tokenizer.encode_batch([clean(text) for text in texts], add_special_tokens=False)
        rows = [[start, *encoding.ids[: self.max_tokens], end] for encoding in encoded]
        for batch in plan([len(row) for row in rows], self._budget(model)):
            ids, mask = pad([rows[i] for i in batch], padding)
            yield batch, ids, mask, model.run(ids, mask, tokens=tokens)

    def _budget(self, model: Model) -> int:
        # The choice of the model for int8 is one of correctness, and not the caller's to change.
        return (
            model.batch_tokens if self._description().precision == "int8" else self._batch_tokens or model.batch_tokens
        )

    def _describe(self) -> Description:
        if self._backend == "onnx":
            known = bge_onnx.describe(self._model_name)
        else:
            known = bge_torch.describe(self._model_name, self._revision)
        if self._max_length > known.longest:
            raise EncoderError(
                f'model "{self._model_name}" reads {known.longest} tokens at most: max_length is {self._max_length}'
            )
        return known

    def _load(self) -> Model:
        self._description()
        if self._backend == "onnx":
            return bge_onnx.load(self._model_name)
        return bge_torch.load(self._model_name, self._revision, device=self._device, dtype=self._dtype)
