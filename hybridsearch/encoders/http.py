"""Any OpenAI-compatible endpoint for embeddings: OpenAI, Azure, vLLM, TEI, Ollama, LiteLLM, …

    HttpEncoder("text-embedding-3-small", dimensions=512)                          # OPENAI_API_KEY in the environment
    HttpEncoder("bge-m3", base_url="http://localhost:8080/v1", api_key_env=None)

POST {base_url}/embeddings (https://platform.openai.com/docs/api-reference/embeddings).
"""

import os
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from hybridsearch.encoders.base import Dense, Encoding
from hybridsearch.encoders.http_client import EmbeddingsClient
from hybridsearch.encoders.once import Once
from hybridsearch.encoders.text import clean
from hybridsearch.errors import ConfigurationError, EncoderError

OPENAI = "https://api.openai.com/v1"
# No endpoint gives away its tokenizer. This one cuts finer than those in use (a Latin word into threes, every other
# character by itself), so that a text of `max_tokens` of these is never too long for the endpoint.
_TOKEN = re.compile(r"[A-Za-z0-9]{1,3}|\S")


class HttpEncoder:
    """Dense vectors from an endpoint. The key is read from the environment at each call and is in no message.

    `dimensions` is sent, for models that can shorten their vectors, unless `send_dimensions` is False, when it only
    says what the endpoint gives; None asks the endpoint once. `max_tokens` is the endpoint's limit for a text: longer
    ones are cut. `timeout` is in seconds, for one attempt; an answer of 429 or 5xx, a timeout and a lost connection
    are tried again, `attempts` in all, after the pause that the endpoint asks for, or a growing one. `batch` is the
    number of texts of a request. The prompts stand before every query and document.

    Raises MissingDependency without the extra `openai`, ConfigurationError when the variable with the key is not set,
    EncoderError when the endpoint refuses, does not answer, or answers with something else than vectors.
    """

    sparse_dimensions: int | None = None

    def __init__(
        self,
        model: str,
        *,
        base_url: str = OPENAI,
        dimensions: int | None = None,
        send_dimensions: bool = True,
        api_key_env: str | None = "OPENAI_API_KEY",
        max_tokens: int = 8191,
        query_prompt: str = "",
        document_prompt: str = "",
        batch: int = 64,
        timeout: float = 30.0,
        attempts: int = 5,
    ) -> None:
        self.name = f"openai:{model}"
        self.max_tokens = max_tokens
        self._model, self._batch, self._asked = model, batch, dimensions
        self._sent = dimensions if send_dimensions else None
        self._prompts = (query_prompt, document_prompt)
        self._api_key_env = api_key_env
        self._where = _without_credentials(base_url)
        self._client: Once[EmbeddingsClient] = Once(
            lambda: EmbeddingsClient(base_url, name=self.name, timeout=timeout, attempts=attempts)
        )

    @cached_property
    def dimensions(self) -> int:
        """Size of the dense vectors: as declared, or as the endpoint answers."""
        return self._asked or len(self._request(["dimensions"])[0])

    @cached_property
    def fingerprint(self) -> str:
        """Endpoint, model, dimensions, prompts. An endpoint can change its model behind one name: that is not seen."""
        prompts = "|".join(self._prompts) if any(self._prompts) else ""
        return f"{self.name}:{self._where}:{self.dimensions}:{self.max_tokens}:{prompts}"

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        """Encode search queries."""
        return self._encode(texts, self._prompts[0])

    def encode_documents(self, texts: Sequence[str]) -> Encoding:
        """Encode pieces of documents."""
        return self._encode(texts, self._prompts[1])

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the offsets of tokens that are a little smaller than the endpoint's own."""
        return [match.span() for match in _TOKEN.finditer(clean(text))]

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        self._client().close()

    def _encode(self, texts: Sequence[str], prompt: str) -> Encoding:
        dense = np.empty((len(texts), self.dimensions), dtype=np.float32)
        ready = [prompt + self._fit(text) for text in texts]
        for start in range(0, len(ready), self._batch):
            vectors = self._request(ready[start : start + self._batch])
            if len(vectors[0]) != self.dimensions:
                raise EncoderError(
                    f'encoder "{self.name}" gave {len(vectors[0])} dimensions, {self.dimensions} are declared: '
                    f"does {self._where} know that model, and can it shorten its vectors?"
                )
            dense[start : start + self._batch] = vectors
        return Encoding(dense)

    def _fit(self, text: str) -> str:
        # Endpoints refuse an empty text, and take a space.
        cleaned = clean(text) or " "
        if len(cleaned) <= self.max_tokens:
            return cleaned
        spans = self.token_spans(cleaned)
        return cleaned[: spans[self.max_tokens][0]] if len(spans) > self.max_tokens else cleaned

    def _request(self, texts: list[str]) -> Dense:
        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._sent:
            body["dimensions"] = self._sent
        vectors = self._client().embeddings(body, self._key(), len(texts))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            text = int(np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0])
            raise EncoderError(f'encoder "{self.name}" gave text {text} of a request a vector without a direction')
        unit: Dense = (vectors / norms).astype(np.float32)
        return unit

    def _key(self) -> str | None:
        if self._api_key_env is None:
            return None
        key = os.environ.get(self._api_key_env)
        if not key:
            raise ConfigurationError(
                f'encoder "{self.name}" needs its key in the environment variable {self._api_key_env}; for an endpoint '
                f"without keys pass api_key_env=None"
            )
        return key


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
