"""Ask an OpenAI-compatible endpoint for embeddings, and again when it is busy."""

import logging
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders.optional import require
from hybridsearch.errors import EncoderError

logger = logging.getLogger(__name__)

_EXTRA = "openai"
_LONGEST_PAUSE = 60.0
_SHOWN = 300  # characters of an answer in a message


class _BusyError(Exception):
    """The endpoint did not answer, or asked to come again; `pause` in seconds is its own wish."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


class EmbeddingsClient:
    """A connection pool to one endpoint; thread-safe.

    `first_pause` is the mean of the first pause in seconds, each later one is twice as long.
    """

    def __init__(self, base_url: str, *, name: str, timeout: float, attempts: int, first_pause: float = 0.5) -> None:
        self._httpx = require("httpx", extra=_EXTRA)
        self._tenacity = require("tenacity", extra=_EXTRA)
        self._url, self._name = base_url.rstrip("/") + "/embeddings", name
        self._timeout, self._attempts, self._first_pause = timeout, attempts, first_pause
        self._open()

    def _open(self) -> None:
        self._client = self._httpx.Client(timeout=self._timeout)
        # An encoder that is dropped, and not closed, leaves no open socket behind.
        self._finalizer = weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Close the connections and get ready to open new ones."""
        self._finalizer()
        self._open()

    def embeddings(self, body: Mapping[str, Any], key: str | None, count: int) -> npt.NDArray[np.float64]:
        """Return the vectors for `body["input"]`, `count` texts, in their order: (count, d).

        Raises EncoderError when the endpoint refuses, is busy to the last attempt, or answers with something else.
        """
        tenacity = self._tenacity
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=self._pause,
            retry=tenacity.retry_if_exception_type(_BusyError),
            reraise=True,
        )
        try:
            answer = retrying(self._post, body, key)
        except _BusyError as busy:
            # Not `from busy`: a cause may hold the request, and the request the key.
            raise EncoderError(f'encoder "{self._name}": {busy}, {self._attempts} times in all') from None
        return self._read(answer, count)

    def _post(self, body: Mapping[str, Any], key: str | None) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            response = self._client.post(self._url, json=body, headers=headers)
        except self._httpx.TransportError as error:
            raise _BusyError(f"{type(error).__name__} from {self._shown_url}") from None
        if response.status_code == 429 or response.status_code >= 500:
            raise _BusyError(self._refusal(response, key), _wish(response.headers.get("retry-after")))
        if response.status_code != 200:
            raise EncoderError(f'encoder "{self._name}": {self._refusal(response, key)}')
        return response

    def _pause(self, state: Any) -> float:
        busy = state.outcome.exception()
        wait = self._tenacity.wait_random_exponential(multiplier=2 * self._first_pause, max=_LONGEST_PAUSE)
        seconds = float(wait(state)) if busy.pause is None else min(busy.pause, _LONGEST_PAUSE)
        logger.warning("%s: %s; attempt %d in %.1f s", self._name, busy, state.attempt_number + 1, seconds)
        return seconds

    def _refusal(self, response: Any, key: str | None) -> str:
        text = response.text[: 10 * _SHOWN]
        text = text.replace(key, "***") if key else text  # some endpoints repeat it
        return f"{self._shown_url} answered {response.status_code} {text[:_SHOWN]}".strip()

    @property
    def _shown_url(self) -> str:
        return str(self._httpx.URL(self._url).copy_with(userinfo=b""))

    def _read(self, response: Any, count: int) -> npt.NDArray[np.float64]:
        try:
            items = response.json()["data"]
            by_index = {int(item.get("index", place)): item["embedding"] for place, item in enumerate(items)}
            vectors = np.array([by_index[i] for i in range(len(items))], dtype=np.float64)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise EncoderError(
                f'encoder "{self._name}": {self._shown_url} gave no embeddings but {response.text[:_SHOWN]!r}'
            ) from error
        if vectors.ndim != 2 or len(vectors) != count or not vectors.size:
            raise EncoderError(
                f'encoder "{self._name}": {self._shown_url} gave {len(vectors)} embeddings of shape {vectors.shape} '
                f"for {count} texts"
            )
        return vectors


def _wish(header: str | None) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
