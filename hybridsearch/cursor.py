"""A place in a list that was ranked once, as text: what a page hands to the next one. Pure: no I/O.

    text = write(Cursor(digest(...), ("dense", "lexical"), entries), secret)
    read(text, secret).entries

The rest of the list travels in the cursor, so that pages neither repeat nor skip a document while rows change. It is
signed; a cursor that was changed, or is of another query, is refused. What is shown does not hang on the signature:
the filter and the role's own rights hold on every page. Who knows the secret may list what passes in any order; what is
inside is checked, so that it is a list in any case.
"""

import base64
import binascii
import hashlib
import hmac
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from hybridsearch.errors import QueryError

SIGNATURE = 16  # bytes
LONGEST = 200_000  # characters
MOST_BYTES = 1_000_000  # unpacked
MOST_RANKS = 2**31 - 1


@dataclass(frozen=True)
class Entry:
    """A document of the list: the columns of its key as PostgreSQL writes them, its score, its rank in each leg.

    `others` is what else the ranking said of it, by name. It does not travel.
    """

    key: tuple[str, ...]
    score: float
    ranks: tuple[int | None, ...]
    others: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Cursor:
    """What is left of a list: of which query, by which legs, how many there were, and whether these are all."""

    digest: str
    legs: tuple[str, ...]
    entries: tuple[Entry, ...]
    total: int
    exact: bool


def digest(*parts: Any) -> str:
    """Return a short name of a query: of values that are written the same way in every process."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def write(cursor: Cursor, secret: str) -> str:
    """Return the cursor as text of letters, digits, - and _."""
    content = [
        cursor.digest,
        cursor.legs,
        cursor.total,
        cursor.exact,
        [[entry.key, entry.score, entry.ranks] for entry in cursor.entries],
    ]
    packed = zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)
    return base64.urlsafe_b64encode(_signature(packed, secret) + packed).decode().rstrip("=")


def read(text: Any, secret: str) -> Cursor:
    """Return the cursor of a text; raise QueryError for what is none, or was changed."""
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST:
        raise unusable()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        packed = raw[SIGNATURE:]
        if not hmac.compare_digest(raw[:SIGNATURE], _signature(packed, secret)):
            raise unusable()
        unpacking = zlib.decompressobj()
        content = json.loads(unpacking.decompress(packed, MOST_BYTES))
        return _cursor(*content)
    except (binascii.Error, zlib.error, ValueError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, QueryError):
            raise
        raise unusable() from error


def _cursor(name: Any, legs: Any, total: Any, exact: Any, entries: Any) -> Cursor:
    """The cursor, of nothing but what `write` writes: whoever knows the secret may have signed anything."""
    made = tuple(_entry(*entry) for entry in _each(list, entries))
    widths = {(len(entry.key), len(entry.ranks)) for entry in made}
    legs = tuple(_each(str, legs))
    if len(widths) > 1 or any(ranks != len(legs) for _, ranks in widths) or not 0 < len(set(legs)) == len(legs):
        raise unusable()
    (name,), (total,), (exact,) = _each(str, [name]), _each(int, [total]), _each(bool, [exact])
    if total < len(made):
        raise unusable()
    return Cursor(name, legs, made, total, exact)


def _entry(key: Any, score: Any, ranks: Any) -> Entry:
    (score,) = _each((int, float), [score])
    ranked = [rank for rank in _each((int, type(None)), ranks) if rank is not None]
    if not isfinite(score) or any(not 1 <= rank <= MOST_RANKS for rank in ranked):
        raise unusable()
    return Entry(tuple(_each(str, key)), float(score), tuple(ranks))


def _each(kind: type | tuple[type, ...], values: Any) -> list[Any]:
    """The values of a list, if all are of a kind; True and False are no numbers."""
    if not isinstance(values, list):
        raise unusable()
    for value in values:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise unusable()
    return values


def _signature(packed: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), packed, "sha256")[:SIGNATURE]


def unusable() -> QueryError:
    """Return the error for what is no cursor."""
    return QueryError("this is no cursor of ours, or it was changed: give what a page said is next, as it is")
