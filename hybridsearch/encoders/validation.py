"""Check what an encoder returned, before anything of it is stored or searched with."""

import math
from collections.abc import Mapping
from itertools import islice

import numpy as np

from hybridsearch.encoders.base import Encoder, Encoding
from hybridsearch.errors import EncoderError

#: How far from 1 the norm of a dense vector may be: float16 models are off by some 1e-3.
NORM_TOLERANCE = 0.01


def checked(encoder: Encoder, encoding: Encoding, count: int) -> Encoding:
    """Return `encoding` if it is one of `count` texts by `encoder`.

    Raises EncoderError, with the encoder's name and the index of the text (from 0), for a wrong number of vectors,
    another dimension, a number that is not finite, a dense vector whose norm is not 1, and a sparse vector with an id
    out of range or a weight that is not above 0.
    """
    shape = np.shape(encoding.dense)
    if shape != (count, encoder.dimensions):
        raise EncoderError(
            f'encoder "{encoder.name}" gave vectors of shape {shape} for {count} texts: '
            f"({count}, {encoder.dimensions}) was expected"
        )
    _check_dense(encoder, encoding)
    if encoding.sparse is not None:
        _check_sparse(encoder, encoding, count)
    elif encoder.sparse_dimensions is not None:
        raise EncoderError(f'encoder "{encoder.name}" has a sparse head and gave no sparse vectors')
    return encoding


def _check_dense(encoder: Encoder, encoding: Encoding) -> None:
    # In float64: the squares of large float32 values overflow, and the message would be of the wrong fault.
    norms = np.linalg.norm(np.asarray(encoding.dense, dtype=np.float64), axis=1)
    for text in np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE)):
        found = f"norm {norms[text]:.4g}, not 1" if np.isfinite(norms[text]) else "a number that is not finite"
        raise EncoderError(f'encoder "{encoder.name}" gave text {text} a dense vector with {found}')


def _check_sparse(encoder: Encoder, encoding: Encoding, count: int) -> None:
    assert encoding.sparse is not None
    if encoder.sparse_dimensions is None or len(encoding.sparse) != count:
        raise EncoderError(
            f'encoder "{encoder.name}" gave {len(encoding.sparse)} sparse vectors for {count} texts and has '
            f"{encoder.sparse_dimensions or 'no'} sparse dimensions"
        )
    for text, weights in enumerate(encoding.sparse):
        for token, weight in _wrong(weights, encoder.sparse_dimensions):
            raise EncoderError(
                f'encoder "{encoder.name}" gave text {text} the weight {weight} at {token}: ids are from 0 to '
                f"{encoder.sparse_dimensions - 1}, weights finite and above 0"
            )


def _wrong(weights: Mapping[int, float], dimensions: int) -> list[tuple[int, float]]:
    wrong = ((t, w) for t, w in weights.items() if not (0 <= t < dimensions and 0 < w < math.inf))
    return list(islice(wrong, 1))
