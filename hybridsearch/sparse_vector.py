"""From an encoder's term weights to a value of the index's sparse column.

sparse_vector(index, {17: 0.21, 902: 0.08})
"""

from collections.abc import Mapping

from pgvector import SparseVector

from hybridsearch.errors import QueryError
from hybridsearch.model import SearchIndex


def sparse_vector(index: SearchIndex, weights: Mapping[int, float]) -> SparseVector:
    """Return weights as a value of the index's sparse column."""
    dimensions = index.encoder.sparse_dimensions
    if dimensions is None:
        raise QueryError(f'index "{index.name}" has no sparse leg: encoder "{index.encoder.name}" has no sparse head')
    return SparseVector(dict(weights), dimensions)
