"""A model of sentence-transformers, made of the tiny checkpoint."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hybridsearch.encoders import checked
from hybridsearch.encoders.sentence_transformers import SentenceTransformersEncoder
from hybridsearch.errors import EncoderError

TEXTS = ["The quick brown fox", "", "A cat sat on the mat while it rained. " * 30, "a\0b \ud800", "向量数据库"]


@pytest.fixture(scope="module")
def folder(tiny_m3, tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer, pooling = Transformer(str(tiny_m3), max_seq_length=64), Pooling(64, pooling_mode="mean")
    path = tmp_path_factory.mktemp("st") / "model"
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(path))
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceTransformersEncoder(str(folder), device="cpu")


def test_vectors_are_those_of_the_model_alone_and_in_a_batch(encoder):
    encoding = checked(encoder, encoder.encode_documents(TEXTS), len(TEXTS))
    for row, text in zip(encoding.dense, TEXTS, strict=True):
        np.testing.assert_allclose(row, encoder.encode_documents([text]).dense[0], atol=1e-5)
    oracle = encoder._model().encode([TEXTS[0]], normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(encoding.dense[0], oracle[0], atol=1e-5)


def test_no_texts_give_an_encoding_of_length_0(encoder):
    assert encoder.encode_queries([]).dense.shape == (0, 64)


def test_prompts_stand_before_the_text_and_in_the_fingerprint(folder, encoder):
    prompted = SentenceTransformersEncoder(str(folder), device="cpu", query_prompt="brown fox: ")
    with_prompt = prompted.encode_queries(["cat"]).dense
    np.testing.assert_allclose(with_prompt, encoder.encode_queries(["brown fox: cat"]).dense, atol=1e-5)
    np.testing.assert_allclose(prompted.encode_documents(["x"]).dense, encoder.encode_documents(["x"]).dense, atol=1e-5)
    assert prompted.fingerprint != encoder.fingerprint
    assert prompted.max_tokens < encoder.max_tokens == 62


def test_a_matryoshka_model_is_cut(folder, encoder):
    cut = SentenceTransformersEncoder(str(folder), device="cpu", dimensions=16)
    encoding = checked(cut, cut.encode_documents(TEXTS), len(TEXTS))
    assert encoding.dense.shape == (len(TEXTS), 16)
    assert cut.fingerprint != encoder.fingerprint


def test_the_fingerprint_follows_the_weights(folder, encoder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert SentenceTransformersEncoder(str(copy)).fingerprint.split(":")[2:] == encoder.fingerprint.split(":")[2:]
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert SentenceTransformersEncoder(str(copy)).fingerprint.split(":")[2:] != encoder.fingerprint.split(":")[2:]


def test_spans_are_of_the_whole_text(encoder):
    text = "The quick brown fox " * 100
    encoder.encode_documents([text])  # which sets the model's own tokenizer to cut
    spans = encoder.token_spans(text)
    assert len(spans) == 400
    assert text[slice(*spans[-1])].strip() == "fox"


def test_threads_get_what_one_thread_gets(encoder):
    expected = encoder.encode_documents(TEXTS).dense
    with ThreadPoolExecutor(4) as pool:
        for i, job in enumerate([pool.submit(encoder.encode_documents, [TEXTS[i % 5]]) for i in range(20)]):
            np.testing.assert_allclose(job.result().dense[0], expected[i % 5], atol=1e-5)


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(EncoderError, match='"sentence-transformers:nobody/nothing" does not load'):
        SentenceTransformersEncoder("nobody/nothing").dimensions  # noqa: B018
