"""A better order when there is time for it, the old one with a reason when there is not."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.encoders.bge import BgeM3Encoder
from hybridsearch.encoders.cross_encoder import CrossEncoder
from hybridsearch.errors import EncoderError
from hybridsearch.rerank import MaxSim, Reranked, max_sim, rerank

TEXTS = ["The quick brown fox", "A cat sat on the mat", "", "向量数据库 \0 \ud800", "fusion joins ranked lists " * 200]


def length(query: str, texts) -> list[float]:
    return [float(len(text)) for text in texts]


def order(score, items, **options) -> Reranked[str]:
    return rerank(score, "query", items, text=str, **options)


# ---- the order


def test_items_come_by_falling_score():
    assert order(length, ["a", "ccc", "bb"]) == Reranked(["ccc", "bb", "a"], [3.0, 2.0, 1.0], None)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_equal_scores_keep_the_order_they_came_in(timeout):
    assert order(length, ["b", "a", "c"], timeout=timeout).items == ["b", "a", "c"]


@given(st.lists(st.text()), st.integers(1, 7))
def test_the_size_of_the_batch_changes_nothing(items, batch):
    assert order(length, items, batch=batch) == order(length, items)


def test_the_scorer_sees_batches_of_the_texts():
    seen = []
    order(lambda query, texts: seen.append((query, list(texts))) or length(query, texts), ["a", "b", "c"], batch=2)
    assert seen == [("query", ["a", "b"]), ("query", ["c"])]


def test_items_of_any_kind_are_read_by_their_text():
    assert rerank(length, "q", [1, 2, 3], text=lambda n: "x" * n).items == [3, 2, 1]


# ---- when it fails


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_scorer_that_raises_leaves_the_order_and_is_named(timeout):
    def broken(query, texts):
        raise EncoderError("out of memory")

    assert order(broken, ["a", "bb"], timeout=timeout) == Reranked(["a", "bb"], None, "EncoderError: out of memory")


@pytest.mark.parametrize("scores", [[1.0], [1.0, 2.0, 3.0], [1.0, float("nan")], [1.0, float("inf")], ["x", "y"], None])
def test_scores_that_are_not_one_number_a_text_leave_the_order(scores):
    result = order(lambda query, texts: scores, ["a", "bb"])
    assert (result.items, result.scores) == (["a", "bb"], None)
    assert result.reason


def test_a_slow_scorer_is_left_behind_and_stops_after_its_batch():
    calls, release = [], threading.Event()

    def slow(query, texts):
        calls.append(texts)
        release.wait(5)
        return length(query, texts)

    begin = time.monotonic()
    result = order(slow, ["a", "bb", "ccc"], timeout=0.05, batch=1)
    assert time.monotonic() - begin < 2
    assert result == Reranked(["a", "bb", "ccc"], None, "no scores after 0.05 s")
    release.set()
    for thread in threading.enumerate():
        if thread.name == "hybridsearch-rerank":
            thread.join(60)
    assert len(calls) == 1


# ---- MaxSim


def test_max_sim_is_the_mean_of_the_best_matches():
    query = np.array([[1, 0], [0, 1]], dtype=np.float32)
    text = np.array([[0.6, 0.8], [1, 0], [0, -1]], dtype=np.float32)
    assert max_sim(query, text) == pytest.approx((1 + 0.8) / 2)
    assert max_sim(query, text[:0]) == -1


def test_max_sim_of_bge_m3_agrees_with_flagembedding(tiny_m3):
    from FlagEmbedding import BGEM3FlagModel

    ours = MaxSim(BgeM3Encoder(str(tiny_m3), device="cpu"))("brown fox", TEXTS[:2])
    flag = BGEM3FlagModel(str(tiny_m3), use_fp16=False, devices=["cpu"])
    vectors = flag.encode(["brown fox", *TEXTS[:2]], return_colbert_vecs=True)["colbert_vecs"]
    assert ours == pytest.approx([float(flag.colbert_score(vectors[0], text)) for text in vectors[1:]], abs=1e-5)
    assert ours[0] > ours[1]


# ---- the cross-encoder


@pytest.fixture(scope="module")
def cross_encoder(tiny_reranker) -> CrossEncoder:
    return CrossEncoder(str(tiny_reranker), device="cpu")


@pytest.mark.parametrize("query", ["brown fox", "", "password " * 900])
def test_it_agrees_with_flagembedding(cross_encoder, tiny_reranker, query):
    from FlagEmbedding import FlagReranker

    # With transformers 5 FlagEmbedding writes an empty text as no second text at all, with version 4 as an empty one.
    texts = [text for text in TEXTS if text and text.isprintable()]
    oracle = FlagReranker(str(tiny_reranker), use_fp16=False, devices=["cpu"], max_length=1024, query_max_length=764)
    expected = [oracle.compute_score([(query, text)])[0] for text in texts]
    assert cross_encoder(query, texts) == pytest.approx(expected, abs=1e-5)


def test_a_score_depends_on_its_text_and_the_query_alone(cross_encoder):
    together = cross_encoder("brown fox", TEXTS)
    assert together == pytest.approx([cross_encoder("brown fox", [text])[0] for text in TEXTS], abs=1e-5)
    assert cross_encoder("brown fox", TEXTS[::-1]) == pytest.approx(together[::-1], abs=1e-5)
    assert max(abs(a - b) for a, b in zip(together, cross_encoder("cat", TEXTS), strict=True)) > 1e-3


def test_no_texts_are_no_scores(cross_encoder):
    assert cross_encoder("x", []) == []


def test_a_reranker_needs_no_heads_and_a_missing_one_is_named(cross_encoder):
    assert not list(Path(cross_encoder.name).glob("*_linear.pt"))
    with pytest.raises(EncoderError, match='"nobody/nothing"'):
        CrossEncoder("nobody/nothing")("x", ["y"])


def test_a_cross_encoder_reranks(cross_encoder):
    result = rerank(cross_encoder, "brown fox", TEXTS, text=str, timeout=60)
    assert result.reason is None
    assert result.scores == sorted(cross_encoder("brown fox", TEXTS), reverse=True)
