"""Keep the encodings of recent queries: a query that comes again costs no encoding.

cache = QueryCache(encoder, size=1024)
cache.encode("red chair")       # encodes
cache.encode("red chair")       # does not
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from hybridsearch.encoders.base import Dense, Encoder, Encoding, Sparse
from hybridsearch.encoders.validation import checked


@dataclass(frozen=True)
class QueryEncoding:
    """One query: `dense` (dimensions,), read-only, since callers share it; `sparse` as in `Encoding`."""

    dense: Dense
    sparse: Sparse | None


class LRU:
    """The `size` query encodings used last, by fingerprint and text; thread-safe. Several encoders may share it."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"the size of a cache is {size}: 0 keeps nothing, fewer than none is no size")
        self._size = size
        self._entries: OrderedDict[tuple[str, str], QueryEncoding] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def get(self, fingerprint: str, text: str) -> QueryEncoding | None:
        """Return the encoding, now the one used last, or None."""
        return self.near(fingerprint, text)

    def near(self, fingerprint: str, text: str) -> QueryEncoding | None:
        """Do the same in this process's memory alone: nothing is waited for."""
        with self._lock:
            found = self._entries.get((fingerprint, text))
            if found is not None:
                self._entries.move_to_end((fingerprint, text))
            return found

    def put(self, fingerprint: str, text: str, encoding: QueryEncoding) -> None:
        """Keep the encoding, and drop the one that was not used for the longest time if there are too many."""
        with self._lock:
            self._entries[fingerprint, text] = encoding
            self._entries.move_to_end((fingerprint, text))
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


class QueryCache:
    """Encodes queries with one encoder through an LRU. Threads that ask for one new text at once each encode it."""

    def __init__(self, encoder: Encoder, *, size: int = 1024, store: LRU | None = None) -> None:
        self.encoder = encoder
        self._store = LRU(size) if store is None else store
        self._known = False

    def fingerprint(self) -> str:
        """Return the encoder's fingerprint; the first time it may read the model, or ask a service."""
        found = self.encoder.fingerprint
        self._known = True
        return found

    def near(self, text: str) -> QueryEncoding | None:
        """Return the encoding if it is in memory, else None: nothing is waited for."""
        return self._store.near(self.encoder.fingerprint, text) if self._known else None

    def get(self, text: str) -> QueryEncoding | None:
        """Return the encoding if it is kept, in memory or elsewhere, else None."""
        return self._store.get(self.fingerprint(), text)

    def encode(self, text: str) -> QueryEncoding:
        """Return the encoding of a query. Raises what the encoder raises, and EncoderError for a wrong encoding."""
        found = self.get(text)
        if found is None:
            found = one(checked(self.encoder, self.encoder.encode_queries([text]), 1))
            self._store.put(self.fingerprint(), text, found)
        return found


def one(encoding: Encoding) -> QueryEncoding:
    """Return the only text of an encoding, by itself."""
    dense = np.array(encoding.dense[0], dtype=np.float32)
    dense.setflags(write=False)
    return QueryEncoding(dense, None if encoding.sparse is None else encoding.sparse[0])
