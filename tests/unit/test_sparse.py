"""From token weights to a sparse vector."""

import logging

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.encoders.sparse import MOST_ELEMENTS, pool

IDS = st.integers(0, 9)
WEIGHTS = st.floats(-1, 1, width=32)


def arrays(pairs):
    return np.array([i for i, _ in pairs], dtype=np.int64), np.array([w for _, w in pairs], dtype=np.float32)


@given(st.lists(st.tuples(IDS, WEIGHTS)), st.sets(IDS))
def test_each_id_has_its_largest_positive_weight(pairs, without):
    expected: dict[int, float] = {}
    for i, weight in pairs:
        if weight > 0 and i not in without:
            expected[i] = max(weight, expected.get(i, 0))
    found = pool(*arrays(pairs), without=without)
    assert found == expected
    assert list(found) == sorted(found)


def test_no_tokens_make_an_empty_vector():
    assert pool(*arrays([])) == {}


def test_what_does_not_fit_is_dropped_from_the_least_and_said(caplog):
    ids = np.arange(MOST_ELEMENTS + 5)
    weights = np.linspace(0.1, 1, len(ids), dtype=np.float32)
    with caplog.at_level(logging.WARNING):
        found = pool(ids, weights)
    assert list(found) == list(range(5, MOST_ELEMENTS + 5))
    assert "16005 elements: the 16000 largest are kept" in caplog.text
