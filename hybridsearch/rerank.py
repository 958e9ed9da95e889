"""Put the first results in a better order by reading their texts: slower than any leg, on few texts.

reranked = rerank(CrossEncoder(), "red chair", hits, text=lambda hit: hit.text, timeout=0.5)
reranked.items, reranked.reason        # the new order and None, or the old order and why
"""

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from hybridsearch.encoders.base import Dense

logger = logging.getLogger(__name__)

Item = TypeVar("Item")


class Scorer(Protocol):
    """A query and n texts in, n scores out, higher is better. Each score depends on its own text and the query."""

    def __call__(self, query: str, texts: Sequence[str], /) -> Sequence[float]:
        """Score the texts."""


class TokenEncoder(Protocol):
    """An encoder with a vector for each token, as `BgeM3Encoder`."""

    def token_vectors(self, texts: Sequence[str], /) -> Sequence[Dense]:
        """Return (tokens, dimensions) vectors of norm 1 for each text."""


@dataclass(frozen=True)
class Reranked(Generic[Item]):
    """`items` by falling score with their `scores`; or, when `reason` says why not, as they came, without scores."""

    items: list[Item]
    scores: list[float] | None
    reason: str | None


@dataclass(frozen=True)
class MaxSim:
    """Late interaction: the mean over the query's tokens of the best match in the text (arXiv 2004.12832, 2402.03216).

    The score is from -1 to 1, as FlagEmbedding's `colbert_score`.
    """

    encoder: TokenEncoder

    def __call__(self, query: str, texts: Sequence[str], /) -> list[float]:
        """Score the texts; one without tokens gets -1."""
        (asked,) = self.encoder.token_vectors([query])
        return [max_sim(asked, vectors) for vectors in self.encoder.token_vectors(texts)]


def max_sim(query: Dense, text: Dense) -> float:
    """Return the mean over the rows of `query` (q, d) of their largest dot product with a row of `text` (t, d)."""
    if not len(query) or not len(text):
        return -1.0
    return float(np.mean((query @ text.T).max(axis=1)))


def rerank(
    score: Scorer,
    query: str,
    items: Sequence[Item],
    *,
    text: Callable[[Item], str],
    timeout: float | None = None,
    batch: int = 32,
) -> Reranked[Item]:
    """Order `items` by the score of their texts; equal scores keep the order that they came in.

    `batch` texts are scored in one call. After `timeout` seconds, or when the scorer raises or does not give a finite
    number for each text, the items come back as they were, with the reason. A call that ran out of time goes on in
    its thread to the end of its batch: a model cannot be interrupted.
    """
    texts = [text(item) for item in items]
    scores, reason = _in_time(lambda stop: _scores(score, query, texts, batch, stop), timeout)
    if scores is None:
        logger.warning("not reranked: %s", reason)
        return Reranked(list(items), None, reason)
    order = sorted(range(len(items)), key=lambda i: -scores[i])
    return Reranked([items[i] for i in order], [scores[i] for i in order], None)


def _scores(score: Scorer, query: str, texts: Sequence[str], batch: int, stop: threading.Event) -> list[float]:
    scores: list[float] = []
    for start in range(0, len(texts), batch):
        if stop.is_set():
            break
        part = texts[start : start + batch]
        made = [float(number) for number in score(query, part)]
        if len(made) != len(part) or not all(map(math.isfinite, made)):
            raise ValueError(f"the reranker gave {made[:5]} for {len(part)} texts")
        scores += made
    return scores


def _in_time(
    work: Callable[[threading.Event], list[float]], timeout: float | None
) -> tuple[list[float] | None, str | None]:
    """Return what `work` gives, or None and why there is nothing."""
    stop = threading.Event()
    done: list[tuple[list[float] | None, str | None]] = []

    def run() -> None:
        try:
            done.append((work(stop), None))
        except Exception as error:  # a search with an order of its own is better than none
            logger.debug("the reranker failed", exc_info=True)
            done.append((None, f"{type(error).__name__}: {error}"))

    if timeout is None:
        run()
        return done[0]
    thread = threading.Thread(target=run, name="hybridsearch-rerank", daemon=True)
    thread.start()
    thread.join(timeout)
    stop.set()
    return done[0] if done else (None, f"no scores after {timeout:g} s")
