"""BGE-M3 by FlagEmbedding, on torch.

`BGEM3FlagModel` loads the model; its `encode` is not used. It runs the first batch twice to find a batch size, hides
a RuntimeError behind an AttributeError, sets the truncation of a tokenizer that other threads are using, and fails on
no texts. The model itself, called with a batch that is ready, does none of this.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders.bge_checkpoint import find, folder_of, read_tokenizer, special_ids
from hybridsearch.encoders.bge_model import Description, Dtype, Heads, Model
from hybridsearch.encoders.optional import require
from hybridsearch.errors import ConfigurationError, EncoderError

_EXTRA = "bge"
_MEMINFO = Path("/proc/meminfo")


def describe(model: str, revision: str | None) -> Description:
    """Read the configuration. Raises EncoderError if there is no such model."""
    found = find(model, revision)
    return Description(found.identity, found.dimensions, found.vocabulary, found.longest, "float")


def load(model: str, revision: str | None, *, device: str | None, dtype: Dtype) -> Model:
    """Load the weights. Raises MissingDependency, ConfigurationError (dtype) and EncoderError."""
    folder = folder_of(find(model, revision))
    torch = require("torch", extra=_EXTRA)
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    flag = load_flag_embedding(folder, device=device, half=wants_half(device, dtype))
    return _TorchModel(torch, flag, device, folder / "tokenizer.json")


def load_flag_embedding(folder: Path, *, device: str, half: bool) -> Any:
    """Load a complete folder as a `BGEM3FlagModel` on `device`. Raises MissingDependency and EncoderError."""
    torch, embedding = require("torch", extra=_EXTRA), require("FlagEmbedding", extra=_EXTRA)
    if not device.startswith("cuda"):
        check_memory(folder, available_memory())
    with without_progress_bars(), clear_errors(torch, f'the model in "{folder}" does not load'):
        flag = embedding.BGEM3FlagModel(str(folder), use_fp16=half, devices=[device])
        flag.model.to(device).eval()
    return flag


def wants_half(device: str, dtype: Dtype) -> bool:
    """Tell whether to use float16: on CUDA, unless float32 is asked for. Raises ConfigurationError elsewhere."""
    if dtype == "float16" and not device.startswith("cuda"):
        raise ConfigurationError(f'dtype "float16" on device "{device}" is slower and less accurate: use it on CUDA')
    if dtype not in ("auto", "float32", "float16"):
        raise ConfigurationError(f'dtype "{dtype}" is not one of "auto", "float32", "float16"')
    return device.startswith("cuda") and dtype != "float32"


def check_memory(folder: Path, available: int | None) -> None:
    """Raise EncoderError if the weights in `folder` need more than the `available` bytes (None: unknown)."""
    sizes = {kind: sum(path.stat().st_size for path in folder.glob(f"*{kind}")) for kind in (".safetensors", ".bin")}
    needed = sizes[".safetensors"] or sizes[".bin"]  # where there are both, transformers reads the first
    if available is not None and needed > available:
        raise EncoderError(
            f"too little memory for the model in {folder}: its weights have {needed / 2**30:.1f} GiB, "
            f'{available / 2**30:.1f} GiB are free: free some, or use backend="onnx" with an int8 export'
        )


def available_memory() -> int | None:
    """Return the bytes that Linux could give to a new process, None elsewhere."""
    if not _MEMINFO.exists():
        return None
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text("ascii").splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


class _TorchModel:
    def __init__(self, torch: Any, flag: Any, device: str, tokenizer: Path) -> None:
        # Not `flag.tokenizer`: transformers 5 rebuilds it without some of the file's normalisers, version 4 does
        # not, and any call with another max_length changes it for every thread.
        self.tokenizer = read_tokenizer(tokenizer, extra=_EXTRA)
        self.special = special_ids(self.tokenizer)
        self.batch_tokens = 16_384 if device.startswith("cuda") else 2_048
        self._torch, self._flag, self._device = torch, flag, device
        # Two forward passes at once take twice the memory and are not faster. The lock is held for one batch, so
        # that a query waits for a batch of documents at most.
        self._lock = threading.Lock()

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], *, tokens: bool) -> Heads:
        torch = self._torch
        with self._lock, torch.inference_mode(), clear_errors(torch, f"bge-m3 failed on {ids.shape} tokens"):
            rows = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            rows = {name: tensor.to(self._device) for name, tensor in rows.items()}
            made = self._flag.model(rows, return_dense=True, return_sparse=True, return_colbert_vecs=tokens)
            return Heads(
                dense=made["dense_vecs"].float().cpu().numpy(),
                weights=made["sparse_vecs"].squeeze(-1).float().cpu().numpy(),
                tokens=made["colbert_vecs"].float().cpu().numpy() if tokens else None,
            )


@contextmanager
def clear_errors(torch: Any, what: str) -> Iterator[None]:
    """Turn what torch and transformers raise into EncoderError, and say so when it was for want of memory."""
    try:
        yield
    except Exception as error:  # of a dozen classes: torch's, safetensors', pickle's, the tokenizer's
        starved = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        advice = ": too little memory, use a smaller batch_tokens or max_length" if starved else ""
        raise EncoderError(f"{what}{advice}: {type(error).__name__}: {error}") from error


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on stderr while it loads."""
    logging = require("transformers.utils.logging", extra=_EXTRA)
    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()
