"""What is searched for: words, vectors or both, and the checks of them. Pure: no I/O.

Query("red chair", dense=vector)        # the words, and their vector
Query("red chair")                      # the words alone
Query(dense=vector, sparse={17: 0.4})   # no words
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridsearch.errors import QueryError
from hybridsearch.model import SearchIndex
from hybridsearch.syntax import Parsed

MAX_HALF = 65_504.0  # the largest number that a halfvec holds
MAX_TOKENS = 16_000  # the most elements of a sparsevec that are not 0
MAX_WEIGHT = 1e30  # a product of two such weights is still a number


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched for: the words, and what an encoder made of them, or vectors of your own.

    `dense` has shape (dimensions,), of the encoder or of the index's storage; `sparse` maps token ids, from 0, to
    weights. None leaves the leg out. `read` is what an engine that ranks in this process has read of the rows.
    """

    text: str | None = None
    dense: npt.NDArray[np.float32] | Sequence[float] | None = None
    sparse: Mapping[int, float] | None = None
    read: Any = None
    parsed: Parsed | None = None
    """The operators that stood in the text."""

    def has(self, leg: str) -> bool:
        """Return whether there is something to search for in a leg."""
        return {"dense": self.dense, "sparse": self.sparse, "lexical": self.text}[leg] is not None

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes that stood in the text."""
        return () if self.parsed is None else self.parsed.prefixes

    @property
    def vector(self) -> npt.NDArray[np.float32]:
        """The dense vector; raises QueryError where there is none."""
        if self.dense is None:
            raise QueryError("the query has no dense vector: give one, or leave the leg out")
        return np.asarray(self.dense, dtype=np.float32)


def checked(index: SearchIndex, query: Query, max_length: int) -> Query:
    """Return the query as the index takes it; raise QueryError for what cannot be searched for."""
    if query.text is None and query.dense is None and query.sparse is None:
        raise QueryError("the query is empty: give a text, a dense vector or sparse weights")
    return replace(
        query,
        text=None if query.text is None else checked_text(query.text, max_length),
        dense=None if query.dense is None else _dense(index, query.dense),
        sparse=None if query.sparse is None else _sparse(index, query.sparse),
    )


def checked_text(text: str, max_length: int) -> str:
    """Return the query's text; raise QueryError for one that cannot be searched for."""
    if not isinstance(text, str):
        raise QueryError(f"the query is a {type(text).__name__}: give a string")
    if len(text) > max_length:
        raise QueryError(f"the query has {len(text):,} characters, at most {max_length:,} are allowed: shorten it")
    for place, character in enumerate(text):
        if character == "\0" or unicodedata.category(character) == "Cs":
            what = "a NUL" if character == "\0" else "half a surrogate pair"
            raise QueryError(f"the query holds {what} at position {place}, which no text in PostgreSQL can: remove it")
    if not text.strip():
        raise QueryError("the query is empty: give at least one word")
    return text


def _dense(index: SearchIndex, given: Any) -> npt.NDArray[np.float32]:
    try:
        with np.errstate(all="ignore"):  # what becomes infinite is refused below
            vector: npt.NDArray[np.float32] = np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise QueryError(f"the dense vector is not one of numbers: {error}") from error
    sizes = {index.storage.dimensions, index.encoder.dimensions}
    if vector.ndim != 1 or len(vector) not in sizes:
        wanted = " or ".join(map(str, sorted(sizes)))
        raise QueryError(f'the dense vector has shape {vector.shape}, index "{index.name}" takes {wanted} dimensions')
    largest = np.abs(vector).max()
    if not largest <= MAX_HALF:
        raise QueryError("the dense vector holds NaN, infinity or numbers beyond 65,504: give one of norm 1")
    if not np.float16(largest):
        raise QueryError("the dense vector is 0 in every dimension: it has no direction, so nothing is near it")
    fitted: npt.NDArray[np.float32] = index.storage.fit(vector[np.newaxis])[0]
    return fitted


def _sparse(index: SearchIndex, given: Any) -> Mapping[int, float]:
    size = index.encoder.sparse_dimensions
    if size is None:
        raise QueryError(f'index "{index.name}" has no sparse leg: encoder "{index.encoder.name}" has no sparse head')
    if not isinstance(given, Mapping):
        raise QueryError(f"the sparse weights are a {type(given).__name__}: give a mapping of token ids to weights")
    if len(given) > MAX_TOKENS:
        raise QueryError(f"there are {len(given):,} sparse weights, at most {MAX_TOKENS:,} are allowed")
    for token, weight in given.items():
        if isinstance(token, bool) or not isinstance(token, int | np.integer) or not 0 <= token < size:
            raise QueryError(f"sparse token {token!r}: give whole numbers from 0 to {size - 1:,}")
        if not isinstance(weight, int | float | np.number) or not _is_weight(weight):
            raise QueryError(f"weight {repr(weight)[:40]} of sparse token {token}: give a finite number")
    return given


def _is_weight(number: Any) -> bool:
    try:
        return abs(float(number)) <= MAX_WEIGHT
    except OverflowError:  # a whole number that no float is as large as
        return False
