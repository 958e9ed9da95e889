"""A query that comes again costs no encoding."""

import threading
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.encoders.base import Encoding
from hybridsearch.encoders.cache import LRU, QueryCache, QueryEncoding
from hybridsearch.errors import EncoderError


class Counting:
    """An encoder that counts what it encodes."""

    name, dimensions, sparse_dimensions, max_tokens = "counting", 2, 10, 10

    def __init__(self, fingerprint: str = "one", scale: float = 1.0) -> None:
        self.fingerprint, self.scale = fingerprint, scale
        self.seen: list[str] = []

    def encode_queries(self, texts):
        self.seen += texts
        angles = np.array([len(text) for text in texts])
        dense = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32) * self.scale
        return Encoding(dense, [{len(text) % 10: 1.0} for text in texts])

    encode_documents = encode_queries

    def token_spans(self, text):
        return []


def test_a_query_that_comes_again_is_not_encoded_again():
    cache = QueryCache(encoder := Counting())
    first, second = cache.encode("chair"), cache.encode("chair")
    assert encoder.seen == ["chair"]
    assert first is second
    np.testing.assert_allclose(first.dense, [np.cos(5), np.sin(5)], atol=1e-6)
    assert first.sparse == {5: 1.0}


def test_encoders_that_share_a_store_do_not_share_vectors():
    store = LRU(10)
    one, two = Counting("one"), Counting("two")
    for encoder in (one, two, one):
        QueryCache(encoder, store=store).encode("chair")
    assert (one.seen, two.seen) == (["chair"], ["chair"])
    assert len(store) == 2


def test_a_vector_that_is_shared_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        QueryCache(Counting()).encode("chair").dense[0] = 9


def test_a_wrong_encoding_is_not_kept():
    cache = QueryCache(encoder := Counting(scale=2))
    for _ in range(2):
        with pytest.raises(EncoderError, match="norm 2"):
            cache.encode("chair")
    assert encoder.seen == ["chair", "chair"]


def test_a_cache_of_size_0_keeps_nothing():
    cache = QueryCache(encoder := Counting(), size=0)
    cache.encode("chair"), cache.encode("chair")
    assert encoder.seen == ["chair", "chair"]
    with pytest.raises(ValueError, match="size of a cache is -1"):
        LRU(-1)


@given(st.integers(0, 4), st.lists(st.tuples(st.sampled_from("pg"), st.sampled_from("abcdef"))))
def test_the_one_not_used_for_the_longest_time_goes_first(size, steps):
    lru, model = LRU(size), OrderedDict()
    for step, text in steps:
        if step == "p":
            entry = QueryEncoding(np.ones(1, dtype=np.float32), None)
            lru.put("f", text, entry)
            model[text] = entry
            model.move_to_end(text)
            if len(model) > size:
                model.popitem(last=False)
        else:
            assert lru.get("f", text) is model.get(text)
            if text in model:
                model.move_to_end(text)
    assert len(lru) == len(model)
    lru.clear()
    assert len(lru) == 0


def test_threads_never_get_anothers_vector():
    cache, wrong = QueryCache(Counting(), size=5), []

    def ask(seed: int) -> None:
        for i in range(300):
            text = "x" * ((i * seed) % 9 + 1)
            if not np.allclose(cache.encode(text).dense[0], np.cos(len(text)), atol=1e-6):
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in (1, 2, 4, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
