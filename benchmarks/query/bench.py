"""Each leg, hybrid, filters, and the usual recipe beside them, in one run: `make bench-query SCALE=100k`.

Prints a table and writes benchmarks/results/query-<scale>.json. The corpus stays in the folder .bench (--folder), so a
stopped run goes on where it was, and a second run builds nothing. Everything is seeded. Systems take turns on each
query, so that ratios hold on a machine that is not quiet; the first pass warms and is not counted.

"sql" is the time from sending the statement to its result, "python" the CPU time of this process for the whole, the
driver's included, which other processes do not lengthen.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "lexical"))
import corpus
import recipe
import servers
from corpus import Article, Author, index

from hybridsearch import HybridSearch, Query
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.dense import distance_to

RESULTS = Path(__file__).parents[1] / "results"
SCALES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
K = 10
FILTERS: dict[str, tuple[Any, str]] = {
    "50 %": (Article.draw < 500, "m.draw < 500"),
    "10 %": (Article.draw < 100, "m.draw < 100"),
    "1 %": (Article.draw < 10, "m.draw < 10"),
    "0.1 %": (Article.draw < 1, "m.draw < 1"),
    "related": (
        Article.author.has(Author.country == "de"),
        "exists (select from bench.author a where a.id = m.author_id and a.country = 'de')",
    ),
    "JSONB": (Article.properties["size"].as_integer() == 7, "(m.properties ->> 'size')::int = 7"),
}


class Clock:
    """Adds up the time between a statement's sending and its result, and between a fetch's begin and end."""

    def __init__(self, engine: Engine) -> None:
        self.seconds = 0.0
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)

    def _before(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def _after(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._begun


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def systems(search: HybridSearch) -> dict[str, Callable[[Session, Query], Any]]:
    """What is measured, by name: from a session and a query to something that is thrown away."""
    made: dict[str, Callable[[Session, Query], Any]] = {}

    def ours(name: str, **options: Any) -> None:
        made[name] = lambda session, query: search.search(session, query, limit=K, suggest=False, **options)

    made["select"] = lambda session, query: session.execute(search.select(query, limit=K)).all()
    for leg in index.legs:
        ours(leg, legs=[leg])
    ours("hybrid")
    for name, (where, _) in FILTERS.items():
        ours(f"dense {name}", legs=["dense"], where=where)
        ours(f"hybrid {name}", where=where)
    words: tuple[recipe.Words, ...] = ("plainto", "any")
    for kind in words:
        statement = recipe.statement("bench", "article", kind)
        made[f"recipe {kind}"] = lambda session, query, statement=statement: session.execute(
            statement, recipe.values(query.vector, query.text or "", "simple", K)
        ).all()
    filtered = recipe.statement("bench", "article", "plainto", FILTERS["1 %"][1])
    made["recipe plainto 1 %"] = lambda session, query: session.execute(
        filtered, recipe.values(query.vector, query.text or "", "simple", K)
    ).all()
    return made


def measure(engine: Engine, queries: Sequence[Query]) -> dict[str, dict[str, float]]:
    """Milliseconds of every system: p50 and p95 of the SQL, p50 of the Python."""
    every, clock = systems(HybridSearch(index)), Clock(engine)
    times: dict[str, list[tuple[float, float]]] = {}
    with Session(engine) as session:
        for _ in range(2):
            times = {name: [] for name in every}
            for query in queries:
                for name, system in every.items():
                    clock.seconds, begun = 0.0, time.process_time()
                    system(session, query)
                    times[name].append((clock.seconds * 1000, (time.process_time() - begun) * 1000))
                session.rollback()
    return {
        name: {
            "sql_p50_ms": statistics.median(sql for sql, _ in pairs),
            "sql_p95_ms": percentile([sql for sql, _ in pairs], 0.95),
            "python_p50_ms": statistics.median(python for _, python in pairs),
        }
        for name, pairs in times.items()
    }


def recalls(engine: Engine, queries: Sequence[Query]) -> dict[str, dict[str, float]]:
    """Recall@10 of the dense leg against comparing everything, and how many of 100 candidates it gives."""
    search, chunks = HybridSearch(index), index.chunks
    found: dict[str, dict[str, float]] = {}
    with Session(engine) as session:
        for name, where in {"none": None, **{name: one for name, (one, _) in FILTERS.items()}}.items():
            shares, sizes = [], []
            for query in queries:
                got = [row[0] for row in session.execute(search.select(query, legs=["dense"], limit=100, where=where))]
                nearest = func.min(distance_to(index, query.vector) + 0.0)
                exact = select(chunks.c.article_id).join_from(Article, chunks, index.same_row(chunks))
                exact = exact if where is None else exact.where(where)
                best = exact.group_by(chunks.c.article_id).order_by(nearest, chunks.c.article_id).limit(K)
                wanted = set(session.scalars(best))
                shares.append(len(wanted & set(got[:K])) / max(1, len(wanted)))
                sizes.append(len(got))
            found[name] = {"recall_at_10": float(np.mean(shares)), "documents": float(np.mean(sizes))}
    return found


def planning(engine: Engine, queries: Sequence[Query]) -> dict[str, float]:
    """Milliseconds that the server plans and runs the hybrid statement, by its own clock: medians over the queries."""
    clocks: dict[str, list[float]] = {"planning_ms": [], "execution_ms": []}

    def explained(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> Any:
        return f"explain (analyze, timing off, format json) {statement}", parameters

    with engine.connect() as connection:
        connection.execute(text("select 1"))
        event.listen(connection, "before_cursor_execute", explained, retval=True)
        for query in (*queries[:10], *queries):  # the first warm the connection
            shown = connection.execute(HybridSearch(index).select(query, limit=K)).cursor.fetchone()[0]
            clocks["planning_ms"].append(shown[0]["Planning Time"])
            clocks["execution_ms"].append(shown[0]["Execution Time"])
    return {name: statistics.median(values[10:]) for name, values in clocks.items()}


def show(found: dict[str, Any]) -> None:
    print(f"\n{found['chunks']:,} chunks, {found['queries']} queries")
    print(f"{'':24} {'sql p50':>9} {'sql p95':>9} {'python':>9}")
    for name, one in found["systems"].items():
        print(f"{name:24} {one['sql_p50_ms']:9.2f} {one['sql_p95_ms']:9.2f} {one['python_p50_ms']:9.2f}")
    for name, one in found["recall"].items():
        print(f"recall@10, filter {name:8} {one['recall_at_10']:.4f}, {one['documents']:.0f} of 100 candidates")
    print(f"hybrid over the sum of its legs: {found['hybrid_over_legs']:.2f}")
    print(
        f"planned in {found['server']['planning_ms']:.2f} ms, run in {found['server']['execution_ms']:.2f} ms",
        flush=True,
    )


def run(engine: Engine, scale: str, count: int) -> dict[str, Any]:
    corpus.build(engine, SCALES[scale], lambda step, seconds: print(f"  {step}: {seconds:.0f} s", flush=True))
    corpus.once(engine, "recipe", lambda: _recipe(engine))
    queries = list(corpus.queries(count))
    figures = measure(engine, queries)
    legs = sum(figures[leg]["sql_p50_ms"] for leg in index.legs)
    return {
        "scale": scale,
        "chunks": SCALES[scale],
        "queries": count,
        "build_s": corpus.seconds(engine),
        "systems": figures,
        "hybrid_over_legs": figures["hybrid"]["sql_p50_ms"] / legs,
        "recall": recalls(engine, queries[:40]),
        "server": planning(engine, queries),
    }


def _recipe(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in recipe.tables("bench", "article", ["body"], "simple"):
            connection.execute(text(statement))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="100k")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where the corpus stays")
    given = parser.parse_args()
    folder = (given.folder / f"query-{given.scale}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"query-{given.scale}.json"
    with servers.ours(folder / "postgres") as server:
        engine = create_engine(sqlalchemy_url(server.address))
        found = run(engine, given.scale, given.queries)
        show(found)
        path.write_text(json.dumps(found, indent=2) + "\n")
        engine.dispose()


if __name__ == "__main__":
    main()
