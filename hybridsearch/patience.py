"""Do not wait for an encoder that is broken: a call has a limit, and after some failures it is left alone for a while.

patience = Patience()
patience.ask(0.2, lambda: encoder.encode_queries(["red"]), 'encoder "minilm"')      # raises EncoderError
"""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hybridsearch.deadline import TimedOut, within
from hybridsearch.errors import EncoderError

T = TypeVar("T")

FAILURES = 3
PAUSE = 5.0  # seconds


class Patience:
    """Counts failures in a row; after `failures` of them nothing is asked for `pause` seconds, then again one by one.

    Without a time limit every call is made: it is for callers who cannot wait.
    """

    def __init__(self, failures: int = FAILURES, pause: float = PAUSE, clock: Callable[[], float] = time.monotonic):
        self._failures, self._pause, self._clock = failures, pause, clock
        self._failed = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def ask(
        self, seconds: float | None, call: Callable[[], T], name: str, kept: Callable[[], T | None] = lambda: None
    ) -> T:
        """Return what the call returns within so many seconds; raise EncoderError, or what it raises.

        While nothing is asked, what is `kept` of an earlier answer is returned, if there is any.
        """
        if seconds is None:
            return call()
        if self._is_left_alone():
            found = within(seconds, kept, f"the cache of {name}")
            if found is None:
                raise EncoderError(f"{name} failed {self._failed} times in a row, and is left alone for a while")
            return found
        try:
            result = within(seconds, call, name)
        except Exception as error:
            with self._lock:
                self._failed, self._since = self._failed + 1, self._clock()
            if isinstance(error, TimedOut):
                raise TimedOut(f"{name} did not answer within {seconds:.3g} s") from error
            raise
        with self._lock:
            self._failed = 0
        return result

    def _is_left_alone(self) -> bool:
        """Whether nothing is asked now. After the pause one call is, and the others see what becomes of it."""
        with self._lock:
            if self._failed < self._failures:
                return False
            if self._clock() - self._since < self._pause:
                return True
            self._since = self._clock()
            return False
