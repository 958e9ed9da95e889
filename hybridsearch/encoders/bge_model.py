"""What a back end of BGE-M3 is: the seam between cutting texts into tokens and running the model on them."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hybridsearch.encoders.base import Dense

Dtype = Literal["auto", "float32", "float16"]


@dataclass(frozen=True)
class Description:
    """What is known of a model before its weights are loaded.

    `identity` names the weights, `longest` counts tokens with the two special ones, `precision` is "float" or "int8".
    """

    identity: str
    dimensions: int
    vocabulary: int
    longest: int
    precision: str


@dataclass(frozen=True)
class Heads:
    """What the model makes of n rows of t tokens: dense (n, d), weights (n, t), and tokens (n, t - 1, d) if asked for.

    Rows of `dense` and vectors of `tokens` have norm 1; `tokens` leaves out the first token, <s>, as the paper does.
    What stands at padding has no meaning.
    """

    dense: Dense
    weights: npt.NDArray[np.float32]
    tokens: npt.NDArray[np.float32] | None


class Model(Protocol):
    """A loaded model.

    `tokenizer` is a `tokenizers.Tokenizer` that nobody else changes; `special` holds the ids of <s>, <pad>, </s>,
    <unk>; `batch_tokens` is how many tokens, with padding, make a good batch here.
    """

    tokenizer: Any
    special: tuple[int, int, int, int]
    batch_tokens: int

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64], *, tokens: bool) -> Heads:
        """Run rows of shape (n, t). Thread-safe. Raises EncoderError."""
