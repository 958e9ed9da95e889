"""BGE-M3 on onnxruntime, from the folder that `onnx_export.export_onnx` wrote. Needs neither torch nor transformers."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders.bge_checkpoint import read_tokenizer, special_ids
from hybridsearch.encoders.bge_model import Description, Heads, Model
from hybridsearch.encoders.optional import require
from hybridsearch.errors import EncoderError

_EXTRA = "onnx"
MODEL_FILE, TOKENIZER_FILE, DESCRIPTION_FILE = "model.onnx", "tokenizer.json", "hybridsearch.json"


@dataclass(frozen=True)
class Export:
    """The files of an export: the graph with its three heads, the tokenizer, and what was exported."""

    folder: Path

    def write_description(self, description: Description) -> None:
        """Write what was exported beside the graph."""
        text = json.dumps(asdict(description), indent=2)
        (self.folder / DESCRIPTION_FILE).write_text(text + "\n", "utf-8")

    def read_description(self) -> Description:
        """Read what was exported. Raises EncoderError if the folder is no export."""
        try:
            return Description(**json.loads((self.folder / DESCRIPTION_FILE).read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise EncoderError(
                f'"{self.folder}" is no ONNX export of BGE-M3 ({error}): make one with `hybridsearch encoder export`'
            ) from error


def describe(folder: str) -> Description:
    """Read what the export holds. Raises EncoderError."""
    return Export(Path(folder)).read_description()


def load(folder: str) -> Model:
    """Load the graph. Raises MissingDependency and EncoderError."""
    onnxruntime = require("onnxruntime", extra=_EXTRA)
    path = Path(folder)
    tokenizer = read_tokenizer(path / TOKENIZER_FILE, extra=_EXTRA)
    try:
        session = onnxruntime.InferenceSession(str(path / MODEL_FILE), providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes have no common base but this
        raise EncoderError(f'the export in "{folder}" does not load: {error}') from error
    return _OnnxModel(session, tokenizer, describe(folder).precision)


class _OnnxModel:
    def __init__(self, session: Any, tokenizer: Any, precision: str) -> None:
        self.tokenizer = tokenizer
        self.special = special_ids(tokenizer)
        # Dynamic int8 takes one scale for the activations of a whole batch: a text would get another vector in other
        # company. A batch of one text, which a budget of one token makes, is the only exact one.
        self.batch_tokens = 1 if precision == "int8" else 1_024
        self._session = session

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], *, tokens: bool) -> Heads:
        names = ["dense", "weights", *(["tokens"] if tokens else [])]
        try:
            made = self._session.run(names, {"input_ids": ids, "attention_mask": mask})
        except Exception as error:  # as above
            raise EncoderError(f"bge-m3 (ONNX) failed on {ids.shape} tokens: {error}") from error
        return Heads(dense=made[0], weights=made[1], tokens=made[2] if tokens else None)
