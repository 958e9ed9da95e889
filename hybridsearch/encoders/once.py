"""A value that is made at its first use, once, whatever the number of threads.

    model = Once(load)
    model()      # load() runs here

(`functools.cached_property` would let two threads both load a model.)
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Call `make` at the first call and return its value at every call. A `make` that raises is tried again."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._value: list[T] = []

    def __call__(self) -> T:
        """Return the value; other threads wait while the first one makes it."""
        if not self._value:
            with self._lock:
                if not self._value:
                    self._value.append(self._make())
        return self._value[0]
