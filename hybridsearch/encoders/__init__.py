"""Encoders turn text into vectors: the protocol, and `load_encoder` to get one by name.

encoder = load_encoder("minilm")
encoder.encode_documents(["a red chair"]).dense.shape      # (1, 384)
"""

from typing import Any

import numpy as np

from hybridsearch.encoders.base import Encoder, Encoding
from hybridsearch.encoders.minilm import MiniLMEncoder
from hybridsearch.errors import ConfigurationError, EncoderError

__all__ = ["Encoder", "Encoding", "checked", "load_encoder"]


def load_encoder(name: str, **options: Any) -> Encoder:
    """Return the encoder of a name. Raises ConfigurationError for an unknown one."""
    if name == "minilm":
        return MiniLMEncoder(**options)
    raise ConfigurationError(f"unknown encoder {name!r}: choose minilm, or give an object of your own")


def checked(encoder: Encoder, encoding: Encoding, count: int) -> Encoding:
    """Return the encoding; raise EncoderError unless it has `count` finite rows of the encoder's dimensions."""
    if encoding.dense.shape != (count, encoder.dimensions):
        raise EncoderError(
            f'encoder "{encoder.name}" returned vectors of shape {encoding.dense.shape} for {count} texts of '
            f"{encoder.dimensions} dimensions"
        )
    if not np.isfinite(encoding.dense).all():
        raise EncoderError(f'encoder "{encoder.name}" returned a vector that is not finite')
    return encoding
