"""BM25 on Zipf text and on real text, system beside system: `make bench-lexical SCALE=100k DATA=folder`.

Prints a table and writes benchmarks/results/lexical-<scale>.json. Everything is seeded. Systems take turns on each
query, in one run, so that ratios hold on a machine that is not quiet; the first pass warms and is not counted.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parent))
import real
import servers
import zipf
from systems import PgTextsearch, RankBm25, Sql, TsRank, gin_build, load

from hybridsearch.connect import sqlalchemy_url

RESULTS = Path(__file__).parents[1] / "results"
SCALES = {"20k": 20_000, "100k": 100_000, "300k": 300_000, "1m": 1_000_000}
K = 10
MOST_FOR_RANK_BM25 = 100_000


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def take_turns(systems: dict[str, Any], queries: Sequence[str]) -> dict[str, list[float]]:
    """Milliseconds of every query on every system, systems in turn; the second pass is the one that counts."""
    times: dict[str, list[float]] = {}
    for _ in range(2):
        times = {name: [] for name in systems}
        for query in queries:
            for name, system in systems.items():
                times[name].append(timed(lambda system=system, query=query: system.search(query, K)))
    return times


def corpus(
    addresses: tuple[str, str], documents: Callable[[], Iterable[tuple[int, str]]], queries: Sequence[str], config: str
) -> dict[str, Any]:
    """Load a corpus into both servers, build every system, measure them."""
    mine, theirs = (psycopg.connect(address, autocommit=True) for address in addresses)
    engine = create_engine(sqlalchemy_url(addresses[0]))
    count = load(mine, documents())
    load(theirs, documents())
    sql = Sql(engine, mine, config)
    systems: dict[str, Any] = {
        "sql": sql,
        "ts_rank": TsRank(mine, config),
        "pg_textsearch": PgTextsearch(theirs, config),
    }
    if count <= MOST_FOR_RANK_BM25:
        systems["rank_bm25"] = RankBm25(mine, config)
    gin = gin_build(mine, config)
    built = {}
    for name, system in systems.items():
        built[name] = system.build()
        print(f"  {name}: built in {built[name]:.0f} s", flush=True)
    times = take_turns(systems, queries)
    postings = sql.postings()
    added = [timed(lambda n=n: _add(engine, sql, count + 1 + n)) for n in range(50)]
    figures = {
        name: {
            "p50_ms": statistics.median(times[name]),
            "p95_ms": percentile(times[name], 0.95),
            "build_s": built[name],
            "bytes": system.size(),
        }
        for name, system in systems.items()
    }
    found = {
        "documents": count,
        "postings": postings,
        "queries": len(queries),
        "bytes_per_posting": sql.size() / postings,
        "bytes_per_posting_with_documents": (sql.size() + sql.forward_size()) / postings,
        "gin_expression_build_s": gin,
        "add_one_document_ms": statistics.median(added),
        "systems": figures,
    }
    sql.drop()
    return found


def _add(engine: Any, sql: Sql, number: int) -> None:
    words = " ".join(" ".join(words) for words in zipf.queries(12, terms=(5, 5), seed=number))
    with Session(engine) as session, session.begin():
        session.connection().exec_driver_sql("insert into source (id, body) values (%s, %s)", (number, words))
        sql.add(session, [(number, words)])


def table(name: str, found: dict[str, Any]) -> None:
    """Print the figures of one corpus, and what they are to those of `sql`."""
    print(f"\n{name}: {found['documents']:,} documents, {found['postings']:,} postings, {found['queries']} queries")
    print(f"{'':14} {'p50 ms':>8} {'p95 ms':>8} {'p50/sql':>8} {'p95/sql':>8} {'build s':>8} {'MB':>8}")
    mine = found["systems"]["sql"]
    for system, one in found["systems"].items():
        ratios = (one["p50_ms"] / mine["p50_ms"], one["p95_ms"] / mine["p95_ms"])
        cells = (one["p50_ms"], one["p95_ms"], *ratios, one["build_s"], one["bytes"] / 2**20)
        print(f"{system:14}", *(f"{cell:8.2f}" for cell in cells))
    whole = found["bytes_per_posting_with_documents"]
    print(f"bytes a posting {found['bytes_per_posting']:.1f}, with the documents' table {whole:.1f}")
    print(f"GIN on the expression {found['gin_expression_build_s']:.0f} s")
    print(f"one document added {found['add_one_document_ms']:.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="20k")
    parser.add_argument("--data", type=Path, help="a folder of judged collections, for the real text")
    parser.add_argument("--queries", type=int, default=100)
    given = parser.parse_args()
    count = SCALES[given.scale]
    found: dict[str, Any] = {"scale": given.scale}
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with servers.ours(folder / "ours") as mine, servers.textsearch(folder / "textsearch") as theirs:
            with psycopg.connect(mine) as connection:
                found["versions"] = {"postgresql": connection.execute("show server_version").fetchone()[0]}
            asked = [" ".join(words) for words in zipf.queries(given.queries)]
            found["zipf"] = corpus((mine, theirs), lambda: zipf.documents(count), asked, "simple")
            table("zipf", found["zipf"])
            if given.data:
                every = list(real.questions(given.data))
                asked = every[:: max(1, len(every) // given.queries)][: given.queries]
                texts = lambda: islice(real.chunks(given.data), count)  # noqa: E731
                found["real"] = corpus((mine, theirs), texts, asked, "english")
                table("real", found["real"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"lexical-{given.scale}.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
