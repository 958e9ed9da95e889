"""Cut texts into batches by their number of tokens.

plan([3, 9, 4], budget=8)      # [[0, 2], [1]]: 2 rows of 4 tokens, then 1 row of 9
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return batches of positions into `lengths`, shortest texts first.

    A batch of n rows whose longest has m tokens costs n × m with its padding, at most `budget`. A text longer than
    the budget is a batch of its own. Neighbours in length share a batch, so that little of it is padding.
    """
    batches: list[list[int]] = []
    for position in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[position] <= budget:
            batches[-1].append(position)
        else:
            batches.append([position])
    return batches


def pad(rows: Sequence[Sequence[int]], fill: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the rows as one (n, longest) array, filled on the right, and its mask: 1 for a token, 0 for filling."""
    width = max(map(len, rows))
    ids = np.full((len(rows), width), fill, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
