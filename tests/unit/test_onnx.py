"""BGE-M3 as ONNX: it agrees with FlagEmbedding, and needs no torch."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from hybridsearch.encoders import load_encoder
from hybridsearch.encoders.bge import BgeM3Encoder
from hybridsearch.errors import ConfigurationError, EncoderError

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TEXTS = [
    "The quick brown fox",
    "",
    "Hybrid search mixes dense embeddings and sparse lexical weights. " * 30,
    "向量数据库与全文检索",
    "fox fox Fox the fox \0 \ud800",
    "x",
]


@pytest.fixture(scope="module")
def torch_encoder(tiny_m3) -> BgeM3Encoder:
    return BgeM3Encoder(str(tiny_m3), device="cpu")


@pytest.fixture(scope="module")
def exports(tiny_m3, tmp_path_factory):
    from hybridsearch.encoders.onnx_export import export_onnx

    folder = tmp_path_factory.mktemp("onnx")
    export_onnx(str(tiny_m3), folder / "float")
    export_onnx(str(tiny_m3), folder / "int8", int8=True)
    return folder


@pytest.fixture(scope="module")
def float_encoder(exports):
    return load_encoder("bge-m3", backend="onnx", model=str(exports / "float"))


@pytest.fixture(scope="module")
def int8_encoder(exports):
    return load_encoder("bge-m3", backend="onnx", model=str(exports / "int8"))


def test_float32_agrees_with_flagembedding_to_1e_4(torch_encoder, float_encoder):
    ours, theirs = float_encoder.encode_documents(TEXTS), torch_encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(ours.dense, theirs.dense, atol=1e-4)
    for mine, other in zip(ours.sparse, theirs.sparse, strict=True):
        assert mine == pytest.approx(other, abs=1e-4)
    for mine, other in zip(float_encoder.token_vectors(TEXTS), torch_encoder.token_vectors(TEXTS), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_the_command_writes_what_the_function_writes(tiny_m3, tmp_path, float_encoder):
    command = [sys.executable, "-m", "hybridsearch.cli", "encoder", "export", str(tiny_m3), str(tmp_path / "onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "float" in done.stdout
    assert "Warning" not in done.stderr
    written = load_encoder("bge-m3", backend="onnx", model=str(tmp_path / "onnx"))
    np.testing.assert_allclose(written.encode_queries(["fox"]).dense, float_encoder.encode_queries(["fox"]).dense)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)


def test_int8_points_the_same_way_and_has_the_same_terms(torch_encoder, int8_encoder):
    ours, theirs = int8_encoder.encode_documents(TEXTS), torch_encoder.encode_documents(TEXTS)
    assert (ours.dense * theirs.dense).sum(axis=1).min() >= 0.999
    assert [set(weights) for weights in ours.sparse] == [set(weights) for weights in theirs.sparse]


@pytest.mark.parametrize("batch_tokens", [None, 4096])
@pytest.mark.parametrize("precision", ["float", "int8"])
def test_a_text_has_the_same_vectors_alone_and_in_a_batch(exports, precision, batch_tokens):
    encoder = BgeM3Encoder(str(exports / precision), backend="onnx", batch_tokens=batch_tokens)
    together = encoder.encode_documents(TEXTS)
    for i, text in enumerate(TEXTS):
        alone = encoder.encode_documents([text])
        np.testing.assert_allclose(alone.dense[0], together.dense[i], atol=1e-5)
        assert alone.sparse[0] == pytest.approx(together.sparse[i], abs=1e-5)


def test_only_int8_has_another_fingerprint(torch_encoder, float_encoder, int8_encoder):
    assert float_encoder.fingerprint == torch_encoder.fingerprint
    assert int8_encoder.fingerprint == torch_encoder.fingerprint.replace(":float", ":int8")


def test_sizes_and_spans_are_those_of_the_model(torch_encoder, float_encoder):
    assert float_encoder.dimensions == torch_encoder.dimensions
    assert float_encoder.sparse_dimensions == torch_encoder.sparse_dimensions
    assert float_encoder.token_spans(TEXTS[2]) == torch_encoder.token_spans(TEXTS[2])


def test_it_runs_without_torch_and_transformers(exports):
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'FlagEmbedding', 'onnx']));"
        "from hybridsearch.encoders import load_encoder;"
        "e = load_encoder('bge-m3', backend='onnx', model=sys.argv[1]);"
        "print(e.encode_queries(['The quick fox']).dense.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(exports / "int8")], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(1, 64)\n", "")


def test_an_export_is_its_own_files_alone(exports):
    for folder in ("float", "int8"):
        names = {path.name for path in (exports / folder).iterdir()}
        assert {"model.onnx", "tokenizer.json", "hybridsearch.json"} <= names <= names | {"model.onnx.data"}
        assert len(names) <= 4
    assert not list(exports.glob(".export-*"))


def test_an_export_overwrites_nothing(exports, tiny_m3):
    from hybridsearch.encoders.onnx_export import export_onnx

    with pytest.raises(ConfigurationError, match="not an empty folder"):
        export_onnx(str(tiny_m3), exports / "float")


def test_a_folder_that_is_no_export_is_refused(tmp_path, tiny_m3):
    for folder in (tmp_path, tiny_m3):
        with pytest.raises(EncoderError, match=r"no ONNX export of BGE-M3 .*hybridsearch encoder export"):
            BgeM3Encoder(str(folder), backend="onnx").encode_queries(["x"])


def test_a_graph_that_is_broken_is_an_error_of_ours(exports, tmp_path):
    copy = shutil.copytree(exports / "int8", tmp_path / "copy")
    (copy / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(EncoderError, match="does not load"):
        BgeM3Encoder(str(copy), backend="onnx").encode_queries(["x"])
