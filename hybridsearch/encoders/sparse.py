"""From the weight of every token of a text to the sparse vector of the text."""

import logging
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

#: The most non-zero elements of a `sparsevec` (https://github.com/pgvector/pgvector#sparsevec-type).
MOST_ELEMENTS = 16_000


def pool(
    ids: npt.NDArray[np.int64], weights: npt.NDArray[np.float32], *, without: Collection[int] = ()
) -> dict[int, float]:
    """Return token id → the largest weight that any of its places has, for weights above 0, by ascending id.

    `ids` and `weights` have the same length, one entry a token; ids in `without` are dropped. Beyond 16,000
    elements the largest are kept, and a warning is logged.
    """
    kept = (weights > 0) & ~np.isin(ids, list(without))
    ids, weights = ids[kept], weights[kept]
    if not len(ids):
        return {}
    order = np.lexsort((weights, ids))  # by id, then weight: the last of a run of one id is its largest weight
    ids, weights = ids[order], weights[order]
    last = np.append(ids[1:] != ids[:-1], True)
    ids, weights = ids[last], weights[last]
    if len(ids) > MOST_ELEMENTS:
        logger.warning("a sparse vector has %d elements: the %d largest are kept", len(ids), MOST_ELEMENTS)
        largest = np.sort(np.argsort(-weights, kind="stable")[:MOST_ELEMENTS])
        ids, weights = ids[largest], weights[largest]
    return dict(zip(ids.tolist(), weights.tolist(), strict=True))
