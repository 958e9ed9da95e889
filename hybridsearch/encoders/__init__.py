"""Encoders turn text into vectors: the protocol, and `load_encoder` to get one by name.

encoder = load_encoder("minilm")
encoder.encode_documents(["a red chair"]).dense.shape      # (1, 384)
"""

from hybridsearch.encoders.base import Encoder, Encoding

__all__ = ["Encoder", "Encoding"]
