"""Write BGE-M3 as ONNX, the dense, sparse and ColBERT heads in the graph, to run it without torch.

    export_onnx("BAAI/bge-m3", "/models/bge-m3-onnx", int8=True)
    load_encoder("bge-m3", backend="onnx", model="/models/bge-m3-onnx")

Inputs: `input_ids`, `attention_mask` (n, t). Outputs: `dense` (n, d), `weights` (n, t), `tokens` (n, t - 1, d).
"""

import shutil
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridsearch.encoders.bge_checkpoint import find as find_checkpoint
from hybridsearch.encoders.bge_checkpoint import folder_of
from hybridsearch.encoders.bge_model import Description
from hybridsearch.encoders.bge_onnx import MODEL_FILE, TOKENIZER_FILE, Export
from hybridsearch.encoders.bge_torch import describe, load_flag_embedding
from hybridsearch.encoders.optional import require
from hybridsearch.errors import ConfigurationError

_EXTRA = "onnx-export"
_INPUTS, _OUTPUTS = ["input_ids", "attention_mask"], ["dense", "weights", "tokens"]
_HEADS = ("weights", "tokens")


def export_onnx(
    model: str, folder: str | Path, *, revision: str | None = None, int8: bool = False, reduce_range: bool = False
) -> Description:
    """Write `model` (a folder, or a name of the hub) into `folder`, which must be empty or not there yet.

    `int8` quantises the weights of the layers, one scale a channel, and, while it runs, what goes into them; the
    embeddings and the three heads stay float32, so that the sparse vector keeps its terms. `reduce_range` uses 7 of
    the 8 bits: for x86 processors without VNNI, whose int8 sums overflow.

    Takes three times the model's size in memory. Raises MissingDependency without the extra `onnx-export`,
    ConfigurationError if the folder is not empty, and EncoderError if the model is missing or incomplete.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(f'"{target}" is not an empty folder: an export does not overwrite')
    description = describe(model, revision)
    source = folder_of(find_checkpoint(model, revision))
    if int8:
        description = replace(description, precision="int8")
    target.parent.mkdir(parents=True, exist_ok=True)
    # In a folder beside it first: an export that fails half-way leaves nothing that looks like one.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as name:
        work = Path(name) / "export"
        work.mkdir()
        _write_graph(source, work / MODEL_FILE)
        if int8:
            _quantise(work / MODEL_FILE, reduce_range=reduce_range)
        shutil.copy(source / "tokenizer.json", work / TOKENIZER_FILE)
        Export(work).write_description(description)
        if target.exists():
            target.rmdir()
        work.rename(target)
    return description


def _write_graph(source: Path, path: Path) -> None:
    torch = require("torch", extra=_EXTRA)
    require("onnxscript", extra=_EXTRA)
    network = load_flag_embedding(source, device="cpu", half=False).model
    ids = torch.tensor([[0, 5, 6, 7, 8, 2], [0, 5, 6, 2, 1, 1]])  # two rows, one of them padded, to trace with
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    with torch.no_grad(), warnings.catch_warnings():
        # Of classes of its own that torch has deprecated, and of two inputs whose axes have one name, as we mean it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _graph(torch, network),
            (ids, (ids != 1).long()),
            str(path),
            input_names=_INPUTS,
            output_names=_OUTPUTS,
            dynamic_shapes=(axes, axes),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )


def _graph(torch: Any, network: Any) -> Any:
    """Make the module that maps ids and mask to the three heads, as FlagEmbedding's `forward` does."""
    normalise = torch.nn.functional.normalize

    class Graph(torch.nn.Module):  # type: ignore[misc] # torch is imported when it is needed
        def __init__(self) -> None:
            super().__init__()
            self.backbone = network.model
            self.sparse, self.colbert = network.sparse_linear, network.colbert_linear

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            vectors = self.colbert(states[:, 1:]) * attention_mask[:, 1:, None].float()
            weights = torch.relu(self.sparse(states)).squeeze(-1)
            return normalise(states[:, 0], dim=-1), weights, normalise(vectors, dim=-1)

    return Graph().eval()


def _quantise(path: Path, *, reduce_range: bool) -> None:
    """Replace the graph in `path` by one whose layers compute in int8."""
    onnx = require("onnx", extra=_EXTRA)
    quantization = require("onnxruntime.quantization", extra=_EXTRA)
    whole = path.with_name("float32.onnx")
    graph = onnx.load(str(path), load_external_data=False).graph
    quantization.quantize_dynamic(
        str(path),
        str(whole),
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=[_last_product(graph, head) for head in _HEADS],
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=reduce_range,
    )
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    whole.rename(path)


def _last_product(graph: Any, output: str) -> str:
    """Return the name of the MatMul nearest to an output: the one of its head."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting, seen = [output], set()
    while waiting:
        node = makers.get(waiting.pop(0))
        if node is None or node.name in seen:
            continue
        if node.op_type in {"MatMul", "Gemm"}:
            return str(node.name)
        seen.add(node.name)
        waiting += node.input
    raise AssertionError(f"no product leads to {output}")
