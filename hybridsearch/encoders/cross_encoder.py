"""A cross-encoder reads the query and a text together and gives one score: the most exact reranker, and the slowest.

score = CrossEncoder()                       # BAAI/bge-reranker-v2-m3, by FlagEmbedding
score("red chair", ["a chair in red", "a blue table"])      # [5.2, -8.1]
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridsearch.encoders.batching import pad, plan
from hybridsearch.encoders.bge_checkpoint import find, folder_of, read_tokenizer, special_ids
from hybridsearch.encoders.bge_model import Dtype
from hybridsearch.encoders.bge_torch import (
    available_memory,
    check_memory,
    clear_errors,
    wants_half,
    without_progress_bars,
)
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.optional import require
from hybridsearch.encoders.text import clean

_EXTRA = "bge"


class CrossEncoder:
    """A reranker of BGE's kind (XLM-RoBERTa with one score), loaded at the first use, once; thread-safe.

    `model`, `revision`, `device` and `dtype` are as for `BgeM3Encoder`. A pair is cut to `max_length` tokens: the
    query to three quarters of it, then the text.

    Raises MissingDependency without the extra `bge`, and EncoderError when the model is missing or fails.
    """

    def __init__(
        self,
        model: str = "BAAI/bge-reranker-v2-m3",
        *,
        revision: str | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        max_length: int = 1024,
        batch_tokens: int = 4_096,
    ) -> None:
        self.name = model
        self._revision, self._device, self._dtype = revision, device, dtype
        self._max_length, self._batch_tokens = max_length, batch_tokens
        self._loaded: Once[_Loaded] = Once(self._load)

    def __call__(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text, any number, higher is better. It depends on that text and the query alone."""
        if not texts:
            return []
        loaded = self._loaded()
        rows = loaded.pairs(query, texts, self._max_length)
        scores = np.empty(len(rows))
        for batch in plan([len(row) for row in rows], self._batch_tokens):
            scores[batch] = loaded.run([rows[i] for i in batch])
        return [float(score) for score in scores]

    def _load(self) -> "_Loaded":
        folder = folder_of(find(self.name, self._revision), heads=())
        torch, embedding = require("torch", extra=_EXTRA), require("FlagEmbedding", extra=_EXTRA)
        device = self._device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        half = wants_half(device, self._dtype)
        if not device.startswith("cuda"):
            check_memory(folder, available_memory())
        with without_progress_bars(), clear_errors(torch, f'reranker "{self.name}" does not load'):
            network = embedding.FlagReranker(str(folder), use_fp16=half, devices=[device]).model.to(device).eval()
            network = network.half() if half else network.float()
        return _Loaded(torch, network, device, folder)


class _Loaded:
    """As with BGE-M3, `compute_score` is not used: it runs the first batch twice and shares its tokenizer's state."""

    def __init__(self, torch: Any, network: Any, device: str, folder: Path) -> None:
        self._torch, self._network, self._device = torch, network, device
        self._tokenizer = read_tokenizer(folder / "tokenizer.json", extra=_EXTRA)
        self._special = special_ids(self._tokenizer)
        self._lock = threading.Lock()

    def pairs(self, query: str, texts: Sequence[str], max_length: int) -> list[list[int]]:
        """Return the ids of <s> query </s></s> text </s> for each text."""
        start, _, end, _ = self._special
        encoded = self._tokenizer.encode_batch([clean(text) for text in (query, *texts)], add_special_tokens=False)
        head = [start, *encoded[0].ids[: max_length * 3 // 4 - 4], end, end]
        return [[*head, *encoding.ids[: max_length - len(head) - 1], end] for encoding in encoded[1:]]

    def run(self, rows: Sequence[Sequence[int]]) -> Any:
        """Return the score of each row: (n,)."""
        ids, mask = pad(rows, self._special[1])
        torch = self._torch
        with self._lock, torch.inference_mode(), clear_errors(torch, f"the reranker failed on {ids.shape} tokens"):
            logits = self._network(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=torch.from_numpy(mask).to(self._device)
            ).logits
            return logits.view(-1).float().cpu().numpy()
