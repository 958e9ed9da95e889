"""A call that does not return is given up, counted, and forgotten once it has returned after all."""

import threading

import pytest

from hybridsearch import deadline
from hybridsearch.deadline import TimedOut, stuck, within


def test_a_thread_that_has_ended_is_not_kept_by_those_who_never_count() -> None:
    before = stuck()
    first, second = threading.Event(), threading.Event()
    with pytest.raises(TimedOut):
        within(0.01, lambda: first.wait(30), "the first")
    assert stuck() == before + 1
    first.set()
    for thread in list(deadline._late):
        thread.join(30)
    with pytest.raises(TimedOut):
        within(0.01, lambda: second.wait(30), "the second")
    assert len([thread for thread in deadline._late if thread.name.startswith("the ")]) == 1
    second.set()
