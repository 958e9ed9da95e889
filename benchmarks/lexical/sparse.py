"""The learned-sparse leg beside HNSW on sparsevec: `make bench-sparse SCALE=100k`.

Vectors like BGE-M3's: 250,002 dimensions, about 100 that are not 0 in a chunk and 10 in a query, the common pieces with
low weights. Prints a table, writes benchmarks/results/sparse-<scale>.json. Recall is of the ten best by exact products
(numpy, float64), a document that ties with the tenth counted as one of them. Everything is seeded.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import servers
from measure import Search, summaries, summary, take_turns
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from systems import NoVectors, source_index

from hybridsearch import SearchIndex
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.schema import migrate
from hybridsearch.weights import weigh

RESULTS = Path(__file__).parents[1] / "results"
SCALES = {"2k": 2_000, "20k": 20_000, "100k": 100_000, "200k": 200_000, "1m": 1_000_000}
DIMENSIONS = 250_002
K = 10
BLOCK = 50_000  # chunks that are made at once

Weights = Mapping[int, float]


class SparseVectors(NoVectors):
    """An encoder that is never asked: the vectors are made here."""

    sparse_dimensions: Any = DIMENSIONS


class Model:
    """Pieces by Zipf's law, weights that grow with their rarity."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        share = 1 / (np.arange(DIMENSIONS) + 5.0)
        self.upto = np.cumsum(share / share.sum())
        self.height = np.clip(np.log(np.arange(DIMENSIONS) + 2) / np.log(DIMENSIONS), 0.05, 1) * 0.35

    def weights(self, tokens: Any) -> Any:
        """Weights of tokens, float32 of the same shape."""
        return (self.height[tokens] * self.random.gamma(4, 0.25, len(tokens)) + 0.002).astype(np.float32)

    def chunks(self, count: int) -> tuple[Any, Any, Any]:
        """Tokens, weights and first places of so many chunks, of about 100 tokens each."""
        drawn = np.searchsorted(self.upto, self.random.random((count, 110)))
        pairs = np.unique(np.repeat(np.arange(count, dtype=np.int64), 110) << 32 | drawn.ravel())
        tokens = (pairs & 0xFFFFFFFF).astype(np.int64)
        return tokens, self.weights(tokens), np.searchsorted(pairs >> 32, np.arange(count + 1))

    def query(self) -> Weights:
        """The weights of a question: 10 tokens, less common than those of a text."""
        tokens = np.unique(np.searchsorted(self.upto, self.random.random(10) ** 0.75))
        return dict(zip(tokens.tolist(), self.weights(tokens).tolist(), strict=True))


def literal(weights: Weights) -> str:
    """Return weights as the text of a sparsevec."""
    inside = ",".join(f"{token + 1}:{weight!r}" for token, weight in sorted(weights.items()))
    return f"{{{inside}}}/{DIMENSIONS}"


def blocks(count: int) -> Iterator[tuple[int, tuple[Any, Any, Any]]]:
    """Yield the chunks, a block at a time: the number of the first, and what `Model.chunks` returns."""
    model = Model(5)
    for first in range(0, count, BLOCK):
        yield first, model.chunks(min(BLOCK, count - first))


def load(connection: Any, declared: SearchIndex, count: int, queries: Sequence[Weights]) -> tuple[Any, int]:
    """Fill table and chunks; return every product (queries, count), and the number of weights."""
    products, postings = np.zeros((len(queries), count)), 0
    connection.execute("alter table source disable trigger all")
    connection.execute(f"drop index {declared.chunks.name}_dense_idx")
    connection.execute("insert into source select n, '' from generate_series(1, %s) as n", (count,))
    columns = "source_id, ordinal, start, stop, text, dense, sparse"
    for first, (tokens, weights, places) in blocks(count):
        postings += len(tokens)
        owner = np.repeat(np.arange(len(places) - 1), np.diff(places))
        for number, query in enumerate(queries):
            asked = np.zeros(DIMENSIONS, dtype=np.float64)
            asked[list(query)] = np.array(list(query.values()), dtype=np.float32)
            products[number, first : first + len(places) - 1] = np.bincount(
                owner, asked[tokens] * weights.astype(np.float64), len(places) - 1
            )
        with connection.cursor().copy(f"copy {declared.chunks.name} ({columns}) from stdin") as copy:
            for n in range(len(places) - 1):
                own = slice(places[n], places[n + 1])
                vector = literal(dict(zip(tokens[own].tolist(), weights[own].tolist(), strict=True)))
                copy.write_row((first + n + 1, 0, 0, 0, "", "[1]", vector))
    connection.execute(f"vacuum analyze {declared.chunks.name}")
    connection.execute("vacuum analyze source")
    return products, postings


def merge(address: str, declared: SearchIndex) -> float:
    """Merge all chunks; return the seconds."""
    begun = time.perf_counter()
    with Session(create_engine(sqlalchemy_url(address), poolclass=NullPool)) as session:
        while weigh(session, declared):
            session.commit()
        session.commit()
    return time.perf_counter() - begun


def recall(found: Sequence[int], products: Any) -> float:
    """Return the share of the best that were found."""
    least = np.sort(products)[-K] * (1 - 1e-6)
    wanted = min(K, int((products > 0).sum()))
    return sum(products[number - 1] >= max(least, 1e-30) for number in found) / wanted


def measure(count: int, asked: int, hnsw: bool) -> dict[str, Any]:
    model = Model(6)
    queries = [model.query() for _ in range(asked)]
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with servers.ours(folder / "ours") as server:
            declared = source_index(encoder=SparseVectors())
            engine = create_engine(sqlalchemy_url(server.address), poolclass=NullPool)
            with engine.begin() as start:
                migrate(start)
                declared.metadata.create_all(start)
                version = start.scalar(text("show server_version"))
            connection = psycopg.connect(server.address, autocommit=True)
            products, postings = load(connection, declared, count, queries)
            print(f"{count:,} chunks, {postings:,} weights", flush=True)
            found: dict[str, Any] = {"scale": count, "versions": {"postgresql": version}, "processors": os.cpu_count()}
            found |= {"chunks": count, "postings": postings, "queries": asked}
            found["systems"] = compared(connection, server.address, declared, queries, products, hnsw)
            found["bytes_per_posting"] = found["systems"]["sql"]["bytes"] / postings
    return found


def compared(
    connection: Any, address: str, declared: SearchIndex, queries: Sequence[Weights], products: Any, hnsw: bool
) -> dict[str, Any]:
    """Build both indexes, and ask every system every question in turn."""
    built = {"sql": merge(address, declared)}
    tables = [declared.weights.name, declared.pieces.name, declared.unweighed.name]
    for table in tables:
        connection.execute(f"vacuum analyze {table}")
    sizes = {"sql": sum(number(connection, f"select pg_total_relation_size('{table}')") for table in tables)}
    chunk = declared.chunks.name
    best = "select source_id from source_best_sparse(%s::sparsevec, %s)"
    scan = f"select source_id from {chunk} order by sparse <#> %s::sparsevec limit %s"
    plain = psycopg.connect(address, autocommit=True)
    plain.execute("set enable_indexscan = off")
    systems: dict[str, Any] = {"sql": (connection, best), "scan": (plain, scan)}
    if hnsw:
        begun = time.perf_counter()
        connection.execute("set maintenance_work_mem = '4GB'")
        connection.execute(f"create index approximate on {chunk} using hnsw (sparse sparsevec_ip_ops)")
        seconds, size = time.perf_counter() - begun, number(connection, "select pg_relation_size('approximate')")
        for ef in (40, 200, 1000):
            own = psycopg.connect(address, autocommit=True)
            own.execute(f"set hnsw.ef_search = {ef}")
            systems[f"hnsw {ef}"], built[f"hnsw {ef}"], sizes[f"hnsw {ef}"] = (own, scan), seconds, size
    searches: dict[str, Search] = {name: partial(answer, *one) for name, one in systems.items()}
    asked = [literal(query) for query in queries]
    times = take_turns(searches, asked)
    depths: dict[int, Any] = {k: {"sql": partial(answer, connection, best, k=k)} for k in (1, 100, 1000)}
    by_k = {k: summaries(take_turns(one, asked))["sql"] for k, one in depths.items()}
    found: dict[str, Any] = {}
    for name, search in searches.items():
        shares = [recall(search(query), products[n]) for n, query in enumerate(asked)]
        built_in = {"build_s": built[name], "bytes": sizes[name]} if name in built else {}
        found[name] = {**summary(times[name]), "recall_at_10": sum(shares) / len(shares), **built_in}
    found["sql"]["by_k"] = by_k
    return found


def answer(connection: Any, statement: str, query: str, k: int = K) -> list[int]:
    return [row[0] for row in connection.execute(statement, (query, k))]


def number(connection: Any, statement: str) -> int:
    return int(connection.execute(statement).fetchone()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="20k")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--no-hnsw", action="store_true", help="without the graph, whose build takes longest")
    given = parser.parse_args()
    found = measure(SCALES[given.scale], given.queries, not given.no_hnsw)
    print(f"bytes a posting: {found['bytes_per_posting']:.1f}")
    print(f"{'':10} {'p50 ms':>8} {'p95 ms':>8} {'recall':>8} {'build s':>8} {'MB':>8}")
    for name, one in found["systems"].items():
        cells = (one["p50_ms"], one["p95_ms"], one["recall_at_10"], one.get("build_s", 0), one.get("bytes", 0) / 2**20)
        print(f"{name:10}", *(f"{cell:8.2f}" for cell in cells))
    print("k:", {k: f"{one['p50_ms']:.1f} / {one['p95_ms']:.1f}" for k, one in found["systems"]["sql"]["by_k"].items()})
    path = RESULTS / f"sparse-{given.scale}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
