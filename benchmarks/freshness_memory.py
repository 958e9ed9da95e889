"""A large backfill: its memory from the first rows to the last, its rate, the build of the graph after it.

    python -m benchmarks.freshness memory

The encoder takes almost no time, so what is measured is everything else; its vectors have 384 dimensions, as MiniLM's.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hybridsearch import Encoding, SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.graph import Estimate
from hybridsearch.page import Page
from hybridsearch.queue import Limits

WORDS = 5000
ROWS = 200_000


class LightEncoder:
    """Adds up a fixed vector for each word."""

    name = "light"
    fingerprint = "light:384"
    dimensions = 384
    sparse_dimensions: int | None = None
    max_tokens = 128

    def __init__(self) -> None:
        self._vectors = np.random.default_rng(1).standard_normal((WORDS, self.dimensions)).astype(np.float32)

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        rows = [self._vectors[[int(word[1:]) % WORDS for word in one.split()]].sum(axis=0) for one in texts]
        return Encoding(np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32))

    encode_documents = encode_queries

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        ends = np.cumsum([len(word) + 1 for word in text.split()]).tolist()
        return [(begin, end - 1) for begin, end in zip([0, *ends], ends, strict=False)]


class Base(DeclarativeBase):
    pass


class Paper(Base):
    __tablename__ = "paper"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


papers = SearchIndex(Paper, ["body"], encoder=LightEncoder(), config="simple")


def memory(engine: Engine) -> dict[str, Any]:
    """Megabytes of this process at a tenth of the rows, at the most and at the end; seconds, and rows a second."""
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("alter system set maintenance_work_mem = '512MB'"))
        connection.execute(text("select pg_reload_conf()"))
        drawn = (
            "(select string_agg('w' || (power(random(), 3) * :words)::int, ' ') from generate_series(1, 40 + n % 2))"
        )
        filled = f"insert into paper (body) select {drawn} from generate_series(1, :rows) as n"
        connection.execute(text(filled), {"words": WORDS - 1, "rows": ROWS})
    process = psutil.Process()
    before = process.memory_info().rss
    sizes: dict[int, int] = {}
    graphs: list[tuple[float, Estimate]] = []

    def page(done: Page) -> None:
        sizes[sum(counted) + done.read] = process.memory_info().rss
        counted.append(done.read)

    counted: list[int] = []
    began = time.perf_counter()
    total = backfill(
        engine,
        papers,
        limits=Limits(batch=128),
        on_page=page,
        on_graph=lambda graph: graphs.append((time.perf_counter() - began, graph)),
    )
    ended = time.perf_counter() - began
    ((loaded, graph),) = graphs
    early = [size for read, size in sizes.items() if read <= ROWS / 10]
    return {
        "rows": total.written,
        "before_mb": _mb(before),
        "at_a_tenth_mb": _mb(max(early)),
        "most_mb": _mb(max(sizes.values())),
        "end_mb": _mb(process.memory_info().rss),
        "load_s": round(loaded, 1),
        "rows_a_second": round(total.written / loaded),
        "graph_s": round(ended - loaded, 1),
        "graph_estimate_mb": _mb(graph.bytes),
    }


def _mb(size: float) -> float:
    return round(size / 2**20, 1)
