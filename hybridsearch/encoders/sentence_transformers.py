"""Any model of sentence-transformers: dense vectors, on torch.

SentenceTransformersEncoder("intfloat/multilingual-e5-base", query_prompt="query: ", document_prompt="passage: ")
"""

import hashlib
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hybridsearch.encoders.base import Encoding
from hybridsearch.encoders.batching import plan
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.optional import require
from hybridsearch.encoders.text import clean
from hybridsearch.errors import EncoderError

_EXTRA = "sentence-transformers"


class SentenceTransformersEncoder:
    """A model of the hub, or a folder, by name; loaded when its dimensions or vectors are first asked for.

    The prompts stand before every query and document; None takes the model's own, if it has any. `dimensions` cuts
    the vectors of a Matryoshka model. `batch_tokens` is the size of a batch in tokens with padding.

    Raises MissingDependency without the extra `sentence-transformers`, and EncoderError when the model does not load.
    """

    sparse_dimensions: int | None = None

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str | None = None,
        dimensions: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        batch_tokens: int = 4_096,
    ) -> None:
        self.name = f"sentence-transformers:{model}"
        self._model_name, self._revision, self._device = model, revision, device
        self._cut, self._batch_tokens = dimensions, batch_tokens
        self._query_prompt, self._document_prompt = query_prompt, document_prompt
        self._model: Once[Any] = Once(self._load)
        self._tokenizer: Once[Any] = Once(self._own_tokenizer)
        self._lock = threading.Lock()

    @cached_property
    def dimensions(self) -> int:
        """Size of the dense vectors. Loads the model."""
        model = self._model()
        # Version 5.3 renamed it, and warns of the old name.
        size = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        return self._cut or int(size())

    @cached_property
    def fingerprint(self) -> str:
        """Model, its commit on the hub or the hash of its files, dimensions, length, prompts. Loads the model."""
        settings = f"{self._prompts}{self._model().max_seq_length}"
        digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
        return f"{self.name}:{self._weights()}:{self.dimensions}:{digest}"

    @cached_property
    def max_tokens(self) -> int:
        """The model's length without special tokens and the longer prompt. Loads the model."""
        longest = self._model().max_seq_length or 512
        spent = max(len(self._tokenizer().encode(prompt).ids) for prompt in self._prompts)
        return max(1, int(longest) - spent)

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries."""
        return self._encode(texts, self._prompts[0])

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents."""
        return self._encode(texts, self._prompts[1])

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the [start, end) character offsets of the text's tokens."""
        offsets = self._tokenizer().encode(clean(text), add_special_tokens=False).offsets
        return [(start, end) for start, end in offsets]

    @cached_property
    def _prompts(self) -> tuple[str, str]:
        own = self._model().prompts or {}
        query = own.get("query", "") if self._query_prompt is None else self._query_prompt
        document = own.get("document") or own.get("passage") or ""
        return query or "", document if self._document_prompt is None else self._document_prompt

    def _encode(self, texts: Sequence[str], prompt: str) -> Encoding:
        dense = np.empty((len(texts), self.dimensions), dtype=np.float32)
        cleaned = [prompt + clean(text) for text in texts]
        for batch in plan([len(e.ids) for e in self._tokenizer().encode_batch(cleaned)], self._batch_tokens):
            dense[batch] = self._run([cleaned[i] for i in batch])
        return Encoding(dense)

    def _run(self, texts: list[str]) -> Any:
        try:
            with self._lock:  # its tokenizer is changed by every call
                return self._model().encode(
                    texts,
                    batch_size=len(texts),
                    prompt="",  # ours is there already
                    normalize_embeddings=True,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
        except (RuntimeError, ValueError, IndexError, MemoryError) as error:
            raise EncoderError(f'encoder "{self.name}" failed on {len(texts)} texts: {error}') from error

    def _load(self) -> Any:
        package = require("sentence_transformers", extra=_EXTRA)
        try:
            return package.SentenceTransformer(
                self._model_name, revision=self._revision, device=self._device, truncate_dim=self._cut
            )
        except Exception as error:  # the hub's, torch's, safetensors' and the tokenizer's own classes
            raise EncoderError(
                f'encoder "{self.name}" does not load: {error}. Pass the folder of a local copy, or download it where '
                f"there is a network"
            ) from error

    def _own_tokenizer(self) -> Any:
        """Copy the tokenizer, whole texts in, no padding: the model's is changed by every call."""
        tokenizers = require("tokenizers", extra=_EXTRA)
        original = getattr(self._model().tokenizer, "backend_tokenizer", self._model().tokenizer)
        if not isinstance(original, tokenizers.Tokenizer):
            raise EncoderError(f'encoder "{self.name}" has no fast tokenizer, which chunking needs')
        copy = tokenizers.Tokenizer.from_str(original.to_str())
        copy.no_truncation()
        copy.no_padding()
        return copy

    def _weights(self) -> str:
        folder = Path(self._model_name)
        if not folder.is_dir():
            configs = [getattr(module, "config", None) for module in self._model().modules()]
            commits = [commit for config in configs if (commit := getattr(config, "_commit_hash", None))]
            return str(commits[0] if commits else self._revision or "main")[:12]
        whole = hashlib.sha256()
        for path in sorted(path for path in folder.rglob("*") if path.suffix in {".json", ".safetensors", ".bin"}):
            with open(path, "rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return f"local:{whole.hexdigest()[:12]}"
