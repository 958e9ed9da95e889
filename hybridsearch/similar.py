"""Search by documents instead of words: what is like these and unlike those, and what is there twice. No encoder.

query = query_of(session, index, positive=[17, 4], negative=[9])
duplicates(index, 0.95)             # Select(first_article_id, second_article_id, similarity)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    false,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from hybridsearch.conditions import condition, of_model
from hybridsearch.constant import DOUBLE, constant
from hybridsearch.dense import scan_settings
from hybridsearch.errors import QueryError
from hybridsearch.keys import identity, is_key
from hybridsearch.model import SearchIndex
from hybridsearch.options import checked_count
from hybridsearch.query import MAX_TOKENS, Query

MOST_EXAMPLES = 100
LEGS = ("dense", "sparse")


def identities(index: SearchIndex, name: str, documents: Any) -> list[tuple[Any, ...]]:
    """Return the keys of some documents, given as objects or keys; raise QueryError for what are none."""
    if isinstance(documents, str | bytes) or not isinstance(documents, Sequence):
        raise QueryError(f"{name} is {documents!r}: give a sequence of documents, as objects or keys")
    if len(documents) > MOST_EXAMPLES:
        raise QueryError(f"{name} has {len(documents)} documents: give at most {MOST_EXAMPLES}")
    return [identity(index, document) for document in documents]


def query_of(
    session: Session, index: SearchIndex, positive: Sequence[tuple[Any, ...]], negative: Sequence[tuple[Any, ...]] = ()
) -> Query:
    """Return a query for what is like the positive documents and unlike the negative ones.

    Each document counts by the mean of its chunks. The query is the positive mean, and away from the negative mean by
    as much as lies between them; of the sparse weights, those above 0. Raises QueryError for a document that is not
    there, or has no vectors yet.
    """
    if not positive:
        raise QueryError("there is no positive document: give at least one")
    likes = [_vectors(session, index, key) for key in positive]
    dislikes = [_vectors(session, index, key) for key in negative]
    liked = np.mean([dense for dense, _ in likes], axis=0)
    wanted = 2 * liked - np.mean([dense for dense, _ in dislikes], axis=0) if dislikes else liked
    norm = float(np.linalg.norm(wanted))
    if norm < 1e-6:
        raise QueryError("the positive and the negative documents cancel each other out: give others")
    weights = _sparse([sparse for _, sparse in likes], [sparse for _, sparse in dislikes])
    return Query(None, (wanted / norm).astype(np.float32), weights if index.encoder.sparse_dimensions else None)


def others(index: SearchIndex, keys: Sequence[tuple[Any, ...]], where: ColumnElement[bool] | None) -> Any:
    """Return the condition with some documents left out."""
    these = not_(or_(false(), *(is_key(index.keys, key) for key in keys)))
    return these if where is None else and_(where, these)


def duplicates(
    index: SearchIndex, threshold: float, *, neighbours: int = 10, limit: int = 100, where: Any = None
) -> Select[Any]:
    """Return a Select of pairs of documents: `first_<key>`, `second_<key>`, `similarity`, the nearest pair first.

    A pair's similarity is the cosine of their nearest chunks, at least the `threshold`. The HNSW index is asked for the
    `neighbours` of every chunk whose document passes `where`, among the chunks of others that pass: of a document with
    more copies than that some pairs are left out, none of the documents.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not -1 <= threshold <= 1:
        raise QueryError(f"threshold is {threshold!r}: give a cosine, -1 to 1")
    neighbours, limit = checked_count("neighbours", neighbours), checked_count("limit", limit)
    where = condition(index, where)
    chunk = index.chunks.alias("chunk")
    near = _near(index, chunk, 1.0 - float(threshold), neighbours, where)
    pairs = [(chunk.c[name], near.c[name]) for name in index.key_names]
    first, second = (tuple_(*keys) for keys in zip(*pairs, strict=True))
    low = [case((first < second, one), else_=two) for one, two in pairs]
    high = [case((first < second, two), else_=one) for one, two in pairs]
    similarity = (literal(1.0, DOUBLE) - func.min(near.c.distance)).label("similarity")
    return (
        select(
            *(key.label(f"first_{name}") for key, name in zip(low, index.key_names, strict=True)),
            *(key.label(f"second_{name}") for key, name in zip(high, index.key_names, strict=True)),
            similarity,
        )
        .select_from(chunk.join(near, literal_column("true")))
        .where(*scan_settings(2 * neighbours), of_model(index, chunk, where))
        .group_by(*low, *high)
        .order_by(similarity.desc(), *low, *high)
        .limit(limit)
    )


def _near(index: SearchIndex, chunk: Any, most: float, neighbours: int, where: ColumnElement[bool] | None) -> Any:
    """The nearest chunks of other documents that pass, at a distance of at most so much, as a FROM element.

    The scan of the HNSW index goes on until it has so many, or has met twice as many that are too far: they come nearly
    in order, and the condition on a window that only counts up ends the scan.
    """
    other = index.chunks.alias("other")
    distance = other.c.dense.cosine_distance(chunk.c.dense)
    order = distance if index.storage.bits is None else other.c.bits.hamming_distance(chunk.c.bits)
    too_far = func.count(case((distance > most, 1))).over(order_by=order, rows=(None, 0))
    keys = [other.c[name] for name in index.key_names]
    met = select(*keys, distance.label("distance"), too_far.label("too_far")).correlate(chunk).lateral("met")
    same = and_(*(met.c[name] == chunk.c[name] for name in index.key_names))
    near = select(met).where(met.c.too_far <= 2 * neighbours, met.c.distance <= most, not_(same))
    near = near.where(of_model(index, met, where)).limit(constant(neighbours))
    return near.correlate(chunk).lateral("near")


def _vectors(session: Session, index: SearchIndex, key: tuple[Any, ...]) -> tuple[Any, dict[int, float]]:
    """The mean of a document's dense vectors, and of its sparse weights."""
    chunks = index.chunks
    columns = [chunks.c.dense] + ([chunks.c.sparse] if index.encoder.sparse_dimensions else [])
    rows = session.execute(
        select(*columns).join_from(chunks, index.model, index.same_row(chunks)).where(is_key(index.keys, key))
    ).all()
    if not rows:
        shown = key[0] if len(key) == 1 else key
        raise QueryError(f"document {shown!r} is not there, or has no vectors yet: index it first")
    dense = np.mean([_numbers(row[0]) for row in rows], axis=0)
    sparse = _sparse([_weights(row[1]) for row in rows], []) if len(columns) > 1 else {}
    return dense, sparse


def _numbers(vector: Any) -> Any:
    return np.asarray(vector.to_list() if hasattr(vector, "to_list") else vector, dtype=np.float64)


def _weights(vector: Any) -> dict[int, float]:
    return {} if vector is None else dict(zip(vector.indices(), vector.values(), strict=True))


def _sparse(likes: Sequence[dict[int, float]], dislikes: Sequence[dict[int, float]]) -> dict[int, float]:
    """The weights of what is liked, away from what is not; the largest, as many as a vector may have."""
    total: dict[int, float] = {}
    for vectors, factor in ((likes, 2.0 if dislikes else 1.0), (dislikes, -1.0)):
        for vector in vectors:
            for token, weight in vector.items():
                total[token] = total.get(token, 0.0) + factor * weight / len(vectors)
    largest = sorted(total.items(), key=lambda item: -item[1])[:MAX_TOKENS]
    return {token: weight for token, weight in largest if weight > 0}
