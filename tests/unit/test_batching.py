"""Batches are cut by tokens, not by texts."""

from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.encoders.batching import pad, plan


@given(st.lists(st.integers(1, 600)), st.integers(1, 2_000))
def test_every_text_is_in_one_batch_and_no_batch_of_several_is_over_budget(lengths, budget):
    batches = plan(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_texts_of_like_length_share_a_batch():
    assert plan([3, 9, 4], budget=8) == [[0, 2], [1]]


def test_rows_are_filled_on_the_right():
    ids, mask = pad([[5], [6, 7]], fill=1)
    assert ids.tolist() == [[5, 1], [6, 7]]
    assert mask.tolist() == [[1, 0], [1, 1]]
