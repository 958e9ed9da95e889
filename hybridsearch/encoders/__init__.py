"""Encoders turn text into vectors: the protocol, and `load_encoder` to get one by name.

encoder = load_encoder("minilm")
encoder.encode_documents(["a red chair"]).dense.shape      # (1, 384)
"""

from hybridsearch.encoders.base import Encoder, Encoding
from hybridsearch.encoders.load import load_encoder
from hybridsearch.encoders.validation import checked

__all__ = ["Encoder", "Encoding", "checked", "load_encoder"]
