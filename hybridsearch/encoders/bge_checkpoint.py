"""The files of a BGE-M3 checkpoint: where they are, whether they are all there, and which weights they hold.

    checkpoint = find("BAAI/bge-m3")              # the hub's cache, or a download
    checkpoint = find("/models/bge-m3")           # a folder

Reads `config.json` alone until the weights are asked for.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hybridsearch.encoders.optional import require
from hybridsearch.errors import EncoderError

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
HEADS = ("sparse_linear.pt", "colbert_linear.pt")
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
# The repository also holds an ONNX model of 2.3 GB, which FlagEmbedding would download.
_PATTERNS = ["*.json", "*.safetensors", "*.bin", "*.pt"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose configuration is at hand. `identity` names the weights: model@revision, or local:hash."""

    model: str
    revision: str | None
    identity: str
    dimensions: int
    vocabulary: int
    longest: int  # tokens, special ones included


def find(model: str, revision: str | None = None) -> Checkpoint:
    """Find a folder, or a model of the hub (its cache first when offline), and read its configuration.

    Raises EncoderError if there is no such model, or it is no XLM-RoBERTa.
    """
    folder = Path(model)
    config_path = folder / "config.json" if folder.is_dir() else _from_hub(model, revision, "config.json")
    config = _read_config(config_path)
    return Checkpoint(
        model=model,
        revision=revision,
        # A snapshot of the hub's cache is in a folder that is named by its commit.
        identity=f"local:{_digest(folder)}" if folder.is_dir() else f"{model}@{config_path.parent.name[:12]}",
        dimensions=int(config["hidden_size"]),
        vocabulary=int(config["vocab_size"]),
        longest=int(config["max_position_embeddings"]) - 2,  # XLM-R counts positions from its padding id, 1
    )


def folder_of(checkpoint: Checkpoint, heads: Sequence[str] = HEADS) -> Path:
    """Return the folder with all of the checkpoint's files, which are downloaded if need be.

    Raises EncoderError for a file that is missing: FlagEmbedding would go on with random heads and say nothing.
    """
    folder = Path(checkpoint.model)
    if not folder.is_dir():
        folder = _from_hub(checkpoint.model, checkpoint.revision, None)
    missing = [name for name in (*heads, "tokenizer.json") if not (folder / name).is_file()]
    if not any(_weights(folder)):
        missing.append(" or ".join(_WEIGHTS))
    if missing:
        raise EncoderError(
            f'model "{checkpoint.model}" lacks {", ".join(missing)} in {folder}: copy every file of the model there'
        )
    return folder


def read_tokenizer(path: Path, *, extra: str) -> Any:
    """Read a tokenizer that neither cuts nor pads, whatever its file says. Raises MissingDependency, EncoderError."""
    tokenizers = require("tokenizers", extra=extra)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # it raises no class of its own
        raise EncoderError(f'"{path}" is no tokenizer: {error}') from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_ids(tokenizer: Any) -> tuple[int, int, int, int]:
    """Return the ids of <s>, <pad>, </s>, <unk> in a tokenizer of XLM-R's form."""
    ids = [tokenizer.token_to_id(token) for token in _SPECIAL]
    if None in ids:
        raise EncoderError(f"the tokenizer lacks {_SPECIAL[ids.index(None)]}: it is not one of BGE-M3")
    start, padding, end, unknown = ids
    return start, padding, end, unknown


def _weights(folder: Path) -> list[Path]:
    return [path for name in _WEIGHTS for path in (folder / name, folder / f"{name}.index.json") if path.is_file()]


def _from_hub(model: str, revision: str | None, file: str | None) -> Path:
    hub = require("huggingface_hub", extra="bge")
    try:
        if file:
            return Path(hub.hf_hub_download(model, file, revision=revision))
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=_PATTERNS, ignore_patterns="*/*"))
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        at = f" at revision {revision}" if revision else ""
        raise EncoderError(
            f'model "{model}"{at} is neither a folder nor in the cache of the model hub, and could not be downloaded '
            f"({error}): pass the folder of a local copy, or download it where there is a network"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from error
    lacking = [key for key in ("hidden_size", "vocab_size", "max_position_embeddings") if key not in config]
    if config.get("model_type") != "xlm-roberta" or lacking:
        raise EncoderError(f'{path} is of a "{config.get("model_type")}" model: BGE-M3 is an xlm-roberta')
    return config


def _digest(folder: Path) -> str:
    names = ("config.json", "tokenizer.json", *HEADS)
    files = [folder / name for name in names if (folder / name).is_file()]
    files += sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin"})
    stamps = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _digest_of(stamps)


@lru_cache(maxsize=8)
def _digest_of(stamps: tuple[tuple[str, int, int], ...]) -> str:
    """Hash the files' names and contents: 2.3 GB take seconds, so a process does it once for files that stay."""
    whole = hashlib.sha256()
    for path, _, _ in stamps:
        with open(path, "rb") as file:
            whole.update(os.path.basename(path).encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]
