"""Wait for a call no longer than so long.

    within(60.0, lambda: encoder.encode_documents(texts), 'encoder "minilm"')

A thread cannot be ended from outside: a call that does not return goes on in its own, which does not keep the process
from ending. `stuck` says how many there are.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from hybridsearch.errors import EncoderError

T = TypeVar("T")


class TimedOut(EncoderError):
    """A call took longer than it may."""


_late: set[threading.Thread] = set()
_lock = threading.Lock()

Join = Callable[[threading.Thread, float], object]
_join: ContextVar[Join] = ContextVar("join", default=threading.Thread.join)


@contextmanager
def joining(join: Join) -> Iterator[None]:
    """Let this context wait for its calls in another way: as an event loop does, which goes on meanwhile."""
    former = _join.set(join)
    try:
        yield
    finally:
        _join.reset(former)


def stuck() -> int:
    """Return how many calls were given up and have not returned yet."""
    return _given_up()


def _given_up(*threads: threading.Thread) -> int:
    """Add threads that are given up, forget those that have ended meanwhile, and count."""
    with _lock:
        _late.update(threads)
        _late.difference_update([thread for thread in _late if not thread.is_alive()])
        return len(_late)


def within(seconds: float | None, call: Callable[[], T], name: str) -> T:
    """Return what the call returns, raise what it raises; raise TimedOut after so many seconds (None: never)."""
    if seconds is None:
        return call()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"{name} within {seconds:g} s", daemon=True)
    thread.start()
    _join.get()(thread, seconds)
    if thread.is_alive():
        _given_up(thread)
        raise TimedOut(f"{name} did not return within {seconds:g} s: mend it, or give it more time (--deadline)")
    if errors:
        raise errors[0]
    return results[0]
