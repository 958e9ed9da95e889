"""Recall@10 and size of each kind of storage for dense vectors, on a real corpus, against exact search.

    python benchmarks/storage.py DATA/icecat-chorus [documents]        # DATABASE_URL the server, else an embedded one

The vectors are minilm's. Exact search is the inner product of the float32 vectors, in numpy.
"""

import os
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, MetaData, func, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema, DropSchema

from hybridsearch import HybridSearch, SearchIndex, load_encoder
from hybridsearch.application import connect
from hybridsearch.evaluation import read_collection
from hybridsearch.query import Query
from hybridsearch.schema import migrate

KINDS: dict[str, dict[str, Any]] = {
    "halfvec": {},
    "vector": {"storage": "vector"},
    "bit": {"storage": "bit"},
    "halfvec, first 256": {"dimensions": 256},
    "halfvec, first 128": {"dimensions": 128},
}
SCHEMA = "hybridsearch_benchmark"
K = 10


def declare(options: dict[str, Any]) -> SearchIndex:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=SCHEMA)

    class Document(Base):
        __tablename__ = "document"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    return SearchIndex(Document, ["title"], encoder="minilm", **options)


def fill(engine: Engine, index: SearchIndex, vectors: np.ndarray) -> None:
    with engine.begin() as connection:
        migrate(connection)
        connection.execute(DropSchema(SCHEMA, cascade=True, if_exists=True))
        connection.execute(CreateSchema(SCHEMA))
        index.metadata.create_all(connection)
        ids = range(len(vectors))
        connection.execute(insert(index.table), [{"id": n, "title": str(n)} for n in ids])
        kept = index.storage.fit(vectors)
        rows = [
            {"document_id": n, "ordinal": 0, "start": 0, "stop": 0, "text": "", "dense": kept[n]}
            | ({"bits": index.storage.quantise(kept[n])} if index.storage.bits else {})
            for n in ids
        ]
        connection.execute(insert(index.chunks), rows)


def measure(engine: Engine, index: SearchIndex, queries: np.ndarray, exact: list[set[int]]) -> tuple[float, float]:
    """Recall@10 and the median milliseconds of the dense leg, at the default ef_search and 100 candidates."""
    search, recalls, times = HybridSearch(index), [], []
    with Session(engine) as session:
        session.execute(select(func.set_config("enable_seqscan", "off", False)))
        for vector, best in zip(index.storage.fit(queries), exact, strict=True):
            statement = search.select(Query("x", vector), legs=["dense"], limit=K)
            begun = time.perf_counter()
            found = {row[0] for row in session.execute(statement)}
            times.append(time.perf_counter() - begun)
            recalls.append(len(found & best) / K)
    return statistics.mean(recalls), statistics.median(times) * 1000


def main(folder: Path, most: int) -> None:
    collection = read_collection(folder)
    encoder = load_encoder("minilm")
    texts = [row["title"] for row in islice(collection.documents(), most)]
    vectors = encoder.encode_documents(texts).dense
    queries = encoder.encode_queries([collection.queries[key] for key in collection.judgements]).dense
    exact = [set(np.argsort(-(vectors @ query), kind="stable")[:K].tolist()) for query in queries]
    engine = connect(os.environ.get("DATABASE_URL", "embedded:.demo"))
    print(f"{len(vectors):,} vectors of {encoder.dimensions} dimensions, {len(queries)} queries")
    print("| storage | recall@10 | column, bytes a row | HNSW, MB | dense leg, ms |\n|---|---|---|---|---|")
    for name, options in KINDS.items():
        index = declare(options)
        fill(engine, index, vectors)
        recall, milliseconds = measure(engine, index, queries, exact)
        with engine.connect() as connection:
            column = connection.scalar(select(func.avg(func.pg_column_size(index.chunks.c.dense))))
            size = connection.scalar(select(func.pg_relation_size(f"{SCHEMA}.document_chunk_dense_idx")))
        print(f"| {name} | {recall:.3f} | {column:.0f} | {size / 2**20:.1f} | {milliseconds:.1f} |", flush=True)
    with engine.begin() as connection:
        connection.execute(DropSchema(SCHEMA, cascade=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
