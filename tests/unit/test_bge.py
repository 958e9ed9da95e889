"""BGE-M3 through the real FlagEmbedding, on a tiny checkpoint: what it gives, and each trap on the way."""

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hybridsearch.encoders.bge import BgeM3Encoder
from hybridsearch.encoders.bge_torch import available_memory, check_memory, wants_half
from hybridsearch.errors import ConfigurationError, EncoderError, MissingDependency

TEXTS = [
    "The quick brown fox",
    "Hybrid search mixes dense embeddings and sparse lexical weights. " * 40,
    "",
    "向量数据库与全文检索",
    "fox fox Fox the fox",
    "PostgreSQL stores vectors",
    "a\0b \ud800 c",
    "rain " * 700,
]


@pytest.fixture(scope="module")
def encoder(tiny_m3) -> BgeM3Encoder:
    return BgeM3Encoder(str(tiny_m3), device="cpu")


@pytest.fixture(scope="module")
def flag(tiny_m3):
    """FlagEmbedding itself: the oracle."""
    from FlagEmbedding import BGEM3FlagModel

    return BGEM3FlagModel(str(tiny_m3), use_fp16=False, devices=["cpu"])


@pytest.fixture
def copy(tiny_m3, tmp_path) -> Path:
    return shutil.copytree(tiny_m3, tmp_path / "copy")


# ---- what it gives


def test_it_agrees_with_flagembedding(encoder, flag):
    texts = [text for text in TEXTS if text.isprintable()]
    ours = encoder.encode_documents(texts)
    theirs = flag.encode(texts, max_length=8192, batch_size=1, return_sparse=True)
    np.testing.assert_allclose(ours.dense, theirs["dense_vecs"], atol=1e-5)
    for mine, other in zip(ours.sparse, theirs["lexical_weights"], strict=True):
        assert mine == pytest.approx({int(key): float(weight) for key, weight in other.items()}, abs=1e-5)


def test_token_vectors_agree_with_flagembedding(encoder, flag):
    texts = TEXTS[:2] + TEXTS[3:6]
    theirs = flag.encode(texts, max_length=8192, batch_size=1, return_dense=False, return_colbert_vecs=True)
    for mine, other in zip(encoder.token_vectors(texts), theirs["colbert_vecs"], strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_texts_that_share_words_are_nearer(encoder):
    query = encoder.encode_queries(["brown fox"]).dense
    fox, fusion = encoder.encode_documents(["The quick brown fox jumps", "Reciprocal rank fusion joins lists"]).dense
    assert query @ fox > query @ fusion


def test_dimensions_are_those_of_the_checkpoint(encoder, tiny_m3):
    config = json.loads((tiny_m3 / "config.json").read_text())
    assert encoder.dimensions == config["hidden_size"] == encoder.encode_queries(["x"]).dense.shape[1]
    assert encoder.sparse_dimensions == config["vocab_size"]


# ---- a text's result depends on that text alone


def test_a_text_has_the_same_vectors_alone_in_company_and_in_any_order(encoder):
    order = random.Random(7).sample(range(len(TEXTS)), len(TEXTS))
    together = encoder.encode_documents([TEXTS[i] for i in order])
    for place, i in enumerate(order):
        alone = encoder.encode_documents([TEXTS[i]])
        np.testing.assert_allclose(together.dense[place], alone.dense[0], atol=1e-5)
        assert together.sparse[place] == pytest.approx(alone.sparse[0], abs=1e-5)


def test_threads_with_different_lengths_do_not_cut_each_others_texts(tiny_m3):
    short, long = (BgeM3Encoder(str(tiny_m3), device="cpu", max_length=n) for n in (8, 64))
    text = "the quick brown fox jumps over the lazy dog a cat sat on the mat"
    wanted = {encoder: encoder.encode_queries([text]).dense for encoder in (short, long)}
    assert np.abs(wanted[short] - wanted[long]).max() > 1e-3
    with ThreadPoolExecutor(4) as pool:
        jobs = [(encoder, pool.submit(encoder.encode_queries, [text])) for _ in range(60) for encoder in (short, long)]
        for encoder, job in jobs:
            np.testing.assert_allclose(job.result().dense, wanted[encoder], atol=1e-5)


def test_batches_of_any_size_give_the_same(tiny_m3, encoder):
    for batch_tokens in (1, 100, 100_000):
        other = BgeM3Encoder(str(tiny_m3), device="cpu", batch_tokens=batch_tokens)
        np.testing.assert_allclose(
            other.encode_documents(TEXTS).dense, encoder.encode_documents(TEXTS).dense, atol=1e-5
        )


# ---- FlagEmbedding's traps


def test_no_texts_give_an_encoding_of_length_0(encoder):
    encoding = encoder.encode_documents([])
    assert (len(encoding), len(encoding.sparse)) == (0, 0)
    assert encoder.token_vectors([]) == []


def test_a_text_beyond_512_tokens_is_read_whole(encoder):
    beginning = "the quick brown fox " * 150
    plain, with_end = encoder.encode_documents([beginning, beginning + "PostgreSQL"]).sparse
    assert set(with_end) - set(plain), "the last word is in no vector"


def test_sparse_keys_are_integers_and_weights_are_floats_that_json_takes(encoder):
    for weights in encoder.encode_documents(TEXTS).sparse:
        assert all(type(key) is int and type(weight) is float and weight > 0 for key, weight in weights.items())
        assert json.loads(json.dumps(weights)) == {str(key): weight for key, weight in weights.items()}


def test_special_tokens_have_no_weight(encoder):
    texts = ["<s> fox </s> <pad> <unk>", "\U0001f600 fox", ""]
    fox, unknown, empty = encoder.encode_documents(texts).sparse
    assert not {0, 1, 2, 3} & (set(fox) | set(unknown))
    assert empty == {}


def test_a_repeated_word_counts_once_with_its_largest_weight(encoder, flag):
    repeated = encoder.encode_documents(["fox fox cat fox"]).sparse[0]
    assert len(repeated) == 2
    theirs = flag.encode(["fox fox cat fox"], return_sparse=True)["lexical_weights"][0]
    assert repeated == pytest.approx({int(key): float(weight) for key, weight in theirs.items()}, abs=1e-5)


def test_an_empty_text_has_a_vector_of_norm_1(encoder):
    assert np.linalg.norm(encoder.encode_documents([""]).dense) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("head", ["sparse_linear.pt", "colbert_linear.pt"])
def test_a_missing_head_is_refused_not_made_up(copy, head):
    (copy / head).unlink()
    with pytest.raises(EncoderError, match=f"lacks {head}"):
        BgeM3Encoder(str(copy)).encode_queries(["x"])


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy, file):
    (copy / file).unlink()
    with pytest.raises(EncoderError, match=f"lacks .*{file}"):
        BgeM3Encoder(str(copy)).encode_queries(["x"])


def test_a_head_that_cannot_be_read_is_an_error_of_ours(copy):
    (copy / "sparse_linear.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(EncoderError, match="does not load") as caught:
        BgeM3Encoder(str(copy), device="cpu").encode_queries(["x"])
    assert caught.value.__cause__ is not None


def test_a_head_of_another_size_is_refused(copy, tiny_checkpoint, tmp_path):
    other = tiny_checkpoint.embedder(tmp_path / "other", hidden=128, positions=66)
    shutil.copy(other / "sparse_linear.pt", copy / "sparse_linear.pt")
    with pytest.raises(EncoderError, match="size mismatch"):
        BgeM3Encoder(str(copy), device="cpu").encode_queries(["x"])


def test_an_error_of_the_model_keeps_its_words_and_its_cause(tiny_m3):
    import torch

    encoder = BgeM3Encoder(str(tiny_m3), device="cpu")
    encoder._model()._flag.model.sparse_linear = torch.nn.Linear(3, 1)
    with pytest.raises(EncoderError, match=r"bge-m3 failed on \(1, 4\) tokens.*cannot be multiplied") as caught:
        encoder.encode_queries(["The fox"])
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_nothing_is_drawn_on_the_terminal(tiny_m3, capfd):
    BgeM3Encoder(str(tiny_m3), device="cpu").encode_documents(["fox"] * 600)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_half_precision_is_for_cuda():
    assert wants_half("cuda:0", "auto")
    assert not wants_half("cuda:0", "float32")
    assert not wants_half("cpu", "auto")
    with pytest.raises(ConfigurationError, match="use it on CUDA"):
        wants_half("cpu", "float16")


def test_too_little_memory_is_said_before_loading(tiny_m3):
    with pytest.raises(EncoderError, match="too little memory"):
        check_memory(tiny_m3, available=1_000_000)
    check_memory(tiny_m3, available_memory())


# ---- the model, the folder, the hub


def test_a_model_that_is_nowhere_is_named():
    with pytest.raises(EncoderError, match=r'model "nobody/nothing".*pass the folder of a local copy'):
        BgeM3Encoder("nobody/nothing").encode_queries(["x"])


def test_another_kind_of_model_is_refused(copy):
    config = json.loads((copy / "config.json").read_text()) | {"model_type": "bert"}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match='of a "bert" model'):
        BgeM3Encoder(str(copy)).encode_queries(["x"])


def test_a_warm_cache_of_the_hub_needs_no_network(tiny_m3, tmp_path, monkeypatch, encoder):
    from huggingface_hub import constants

    repository = tmp_path / "models--BAAI--bge-m3"
    shutil.copytree(tiny_m3, repository / "snapshots" / ("5617a9f6" * 5))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("5617a9f6" * 5)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    cached = BgeM3Encoder(device="cpu")
    assert cached.fingerprint == "bge-m3:BAAI/bge-m3@5617a9f65617:8192:cls:float"
    np.testing.assert_allclose(cached.encode_queries(["fox"]).dense, encoder.encode_queries(["fox"]).dense, atol=1e-6)


def test_the_fingerprint_follows_the_weights_not_the_folder(encoder, copy, tiny_m3, tiny_checkpoint, tmp_path):
    assert BgeM3Encoder(str(copy)).fingerprint == encoder.fingerprint
    assert BgeM3Encoder(str(copy), max_length=512).fingerprint != encoder.fingerprint
    other = tiny_checkpoint.embedder(tmp_path / "other", seed=1)
    assert BgeM3Encoder(str(other)).fingerprint != encoder.fingerprint
    shutil.copy(other / "sparse_linear.pt", copy / "sparse_linear.pt")
    assert BgeM3Encoder(str(copy)).fingerprint != encoder.fingerprint


def test_a_length_beyond_the_model_is_refused(tiny_m3):
    with pytest.raises(EncoderError, match="reads 8192 tokens at most: max_length is 8193"):
        BgeM3Encoder(str(tiny_m3), max_length=8193).dimensions  # noqa: B018


@pytest.mark.parametrize(
    "options", [{"backend": "tensorflow"}, {"backend": "onnx", "device": "cpu"}, {"max_length": 2}]
)
def test_options_that_do_not_go_together_are_refused(options):
    with pytest.raises(ConfigurationError):
        BgeM3Encoder("x", **options)


@pytest.mark.parametrize("module", ["torch", "FlagEmbedding", "tokenizers"])
def test_a_missing_package_names_the_extra(monkeypatch, tiny_m3, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependency, match=rf"{module}.*pip install 'hybridsearch\[bge\]'"):
        BgeM3Encoder(str(tiny_m3), device="cpu").encode_queries(["x"])


def test_dimensions_and_fingerprint_need_no_torch(tiny_m3):
    code = (
        "import sys; from hybridsearch.encoders.bge import BgeM3Encoder; e = BgeM3Encoder(sys.argv[1]);"
        "print(e.dimensions, e.fingerprint); print(sorted({'torch', 'transformers', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_m3)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"
    assert done.stdout.startswith("64 bge-m3:local:")


def test_spans_are_offsets_into_the_source(encoder):
    text = "The quick\nbrown \0 fox,  PostgreSQL 向量"
    spans = encoder.token_spans(text)
    assert "".join(text[a:b] for a, b in spans if text[a:b].strip()).startswith("The")
    assert all(0 <= a <= b <= len(text) for a, b in spans)
    assert spans == sorted(spans)


def test_spans_of_a_long_text_are_those_of_one_call_of_the_tokenizer(encoder):
    text = "The quick\n\n brown  fox. 向量数据库 PostgreSQL " * 900
    whole = encoder._model().tokenizer.encode(text, add_special_tokens=False).offsets
    assert encoder.token_spans(text) == [tuple(span) for span in whole]


@pytest.mark.skipif(
    "HYBRIDSEARCH_BGE_M3" not in os.environ, reason="HYBRIDSEARCH_BGE_M3 names no folder of BAAI/bge-m3"
)
def test_the_real_weights_find_a_chinese_answer_to_an_english_question():
    encoder = BgeM3Encoder(os.environ["HYBRIDSEARCH_BGE_M3"])
    assert (encoder.dimensions, encoder.sparse_dimensions) == (1024, 250_002)
    query = encoder.encode_queries(["How do I reset my password?"]).dense
    near, far = encoder.encode_documents(["如何重置密码：打开账户页面。", "今天的天气非常好。"]).dense
    assert query @ near > query @ far + 0.1
    sparse = encoder.encode_documents(["BM25 ranks documents"]).sparse[0]
    assert len(sparse) > 2
    assert max(sparse.values()) < 1
