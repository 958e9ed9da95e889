"""BM25 on Zipf text and on real text, system beside system: `make bench-lexical SCALE=100k DATA=folder`.

Prints tables and writes benchmarks/results/lexical-<scale>.json, after each part; with `--resume`, parts that it holds
are not run again. Everything is seeded. The parts:

    zipf, real      build, size, queries of each system in turn; queries by their number of words; one common word;
                    a server without anything in its caches; parallel workers; one document added
    growth          Zipf at a tenth of the scale: what ten times the documents cost
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import real
import servers
import zipf
from measure import Search, processor_seconds, summaries, summary, take_turns, timed
from sqlalchemy import create_engine, delete
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from systems import PgTextsearch, RankBm25, Sql, TsRank, copied, gin_build, load

from hybridsearch.connect import sqlalchemy_url
from hybridsearch.words import index_words

RESULTS = Path(__file__).parents[1] / "results"
SCALES = {"2k": 2_000, "20k": 20_000, "100k": 100_000, "300k": 300_000, "1m": 1_000_000}
K = 10
MOST_FOR_RANK_BM25 = 100_000
FORCED_PARALLEL = (
    "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; "
    "set min_parallel_index_scan_size = 0; set max_parallel_workers_per_gather = {}"
)


@dataclass
class Corpus:
    """Documents, the configuration for their words, what is asked: whole queries, and some by their number of words."""

    documents: Callable[[], Iterable[tuple[int, str]]]
    config: str
    queries: Sequence[str]
    by_terms: dict[int, Sequence[str]]


class Bench:
    """Two servers with one corpus on both."""

    def __init__(self, mine: servers.Server, theirs: str) -> None:
        self.mine, self.theirs = mine, theirs

    def connect(self, address: str) -> psycopg.Connection[Any]:
        return psycopg.connect(address, autocommit=True)

    def run(self, corpus: Corpus) -> dict[str, Any]:
        """Load a corpus into both servers, build every system, measure them."""
        mine, theirs = self.connect(self.mine.address), self.connect(self.theirs)
        engine = create_engine(sqlalchemy_url(self.mine.address), poolclass=NullPool)
        count = load(mine, corpus.documents())
        copied(mine, theirs)
        taken = processor_seconds(mine)
        gin = gin_build(mine, corpus.config)
        gin_taken = processor_seconds(mine) - taken
        sql = Sql(engine, mine, corpus.config)
        systems: dict[str, Any] = {
            "sql": sql,
            "ts_rank": TsRank(mine, corpus.config),
            "pg_textsearch": PgTextsearch(theirs, corpus.config),
        }
        if count <= MOST_FOR_RANK_BM25:
            systems["rank_bm25"] = RankBm25(mine, corpus.config)
        built = {}
        for name, system in systems.items():
            before = processor_seconds(mine)
            built[name] = system.build()
            if name == "sql":
                taken = processor_seconds(mine) - before
            print(f"  {name}: built in {built[name]:.0f} s", flush=True)
        postings = sql.postings()
        found: dict[str, Any] = {
            "documents": count,
            "postings": postings,
            "queries": len(corpus.queries),
            "bytes_per_posting": sql.size() / postings,
            "bytes_per_posting_with_documents": (sql.size() + sql.forward_size()) / postings,
            "gin_expression_build_s": gin,
            "build_to_gin_expression": built["sql"] / gin,
            "build_to_gin_expression_by_processor": taken / gin_taken,
            "add_one_document": _added(engine, sql, count),
        }
        found["systems"] = self.measured(systems, built, corpus, found)
        for name in ("ts_rank", "pg_textsearch"):
            if name in found["systems"]:
                found[f"sql_to_{name}"] = _ratios(found["systems"]["sql"], found["systems"][name])
        found["cold"] = self.cold(corpus, sql)
        sql = Sql(engine, self.connect(self.mine.address), corpus.config)
        found["parallel_workers"] = self.parallel(sql, corpus)
        sql.drop()
        return found

    def measured(self, systems: dict[str, Any], built: dict[str, float], corpus: Corpus, found: dict[str, Any]) -> Any:
        """Queries of every kind, the systems in turn; puts what is not of all queries into `found`."""
        searches: dict[str, Search] = {name: partial(system.search, k=K) for name, system in systems.items()}
        times = take_turns(searches, corpus.queries)
        found["by_terms"] = {n: summaries(take_turns(searches, asked)) for n, asked in corpus.by_terms.items()}
        common = systems["sql"].word_of(0.05)
        found["one_word_in_5_percent"] = {"word": common, **summaries(take_turns(searches, [common] * 20))}
        depths = {k: {"sql": partial(systems["sql"].search, k=k)} for k in (1, 10, 100, 1000)}
        found["by_k"] = {k: summaries(take_turns(one, corpus.queries))["sql"] for k, one in depths.items()}
        return {
            name: {**summary(times[name]), "build_s": built[name], "bytes": system.size()}
            for name, system in systems.items()
        }

    def cold(self, corpus: Corpus, sql: Sql) -> dict[str, Any]:
        """Every query once, on a server that has just started: nothing of it is in memory."""
        found = {}
        for name in ("sql", "ts_rank"):
            self.mine.restart()
            connection = self.connect(self.mine.address)
            again: Any = Sql(sql.engine, connection, sql.config) if name == "sql" else TsRank(connection, sql.config)
            first = timed(lambda again=again: again.search(corpus.queries[0], K))
            rest = [timed(lambda again=again, query=query: again.search(query, K)) for query in corpus.queries[1:51]]
            found[name] = {"first_ms": first, **summary(rest)}
        return found

    def parallel(self, sql: Sql, corpus: Corpus) -> dict[int, Any]:
        """The same queries without parallel workers, and with two that cost the planner nothing."""
        found = {}
        for workers in (0, 2):
            connection = self.connect(self.mine.address)
            connection.execute(FORCED_PARALLEL.format(workers))
            again = Sql(sql.engine, connection, sql.config)
            found[workers] = summaries(take_turns({"sql": partial(again.search, k=K)}, corpus.queries[:50]))["sql"]
        return found

    def growth(self, count: int, queries: Sequence[str]) -> dict[str, Any]:
        """This index alone, on so many documents."""
        mine = self.connect(self.mine.address)
        engine = create_engine(sqlalchemy_url(self.mine.address), poolclass=NullPool)
        load(mine, zipf.documents(count))
        sql = Sql(engine, mine, "simple")
        seconds = sql.build()
        found = {"documents": count, "build_s": seconds, "bytes_per_posting": sql.size() / sql.postings()}
        found |= summaries(take_turns({"sql": partial(sql.search, k=K)}, queries))["sql"]
        sql.drop()
        return found


def _ratios(mine: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name.removesuffix("_ms"): mine[name] / other[name] for name in ("p50_ms", "p95_ms")}


def _added(engine: Any, sql: Sql, count: int) -> dict[str, dict[str, float]]:
    """Milliseconds to add a document of 60 words and commit it, on a connection that has done so before.

    `words` is the index's part alone, in the transaction of the insert; `worker` is a commit of the insert and another
    of all that a worker does in its first stage.
    """
    texts = [" ".join(" ".join(words) for words in zipf.queries(12, terms=(5, 5), seed=n)) for n in range(120)]
    with engine.connect() as connection, Session(connection) as session:

        def insert(number: int) -> None:
            body = texts[number - count - 1]
            connection.exec_driver_sql("insert into source (id, body) values (%s, %s)", (number, body))

        def words(number: int) -> None:
            insert(number)
            sql.add(session, [number])
            session.commit()

        def worker(number: int) -> None:
            insert(number)
            session.commit()
            index_words(session, sql.index, wait=True)
            session.commit()

        found = {}
        for place, work in enumerate((words, worker)):
            first = count + 1 + 60 * place
            found[work.__name__] = summary([timed(partial(work, first + n)) for n in range(60)][10:])
            session.execute(delete(sql.index.changes))
            session.commit()
        return found


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
    ratios = (found["build_to_gin_expression"], found["build_to_gin_expression_by_processor"])
    print(f"build to GIN ({found['gin_expression_build_s']:.0f} s): {ratios[0]:.2f}, by processor time {ratios[1]:.2f}")
    for part in ("add_one_document", "one_word_in_5_percent", "by_terms", "by_k", "cold", "parallel_workers"):
        print(f"{part}: {_short(found[part])}", flush=True)


def _short(found: Any) -> Any:
    """Write p50 / p95 as one text."""
    if not isinstance(found, dict):
        return found
    if "p50_ms" in found:
        return f"{found['p50_ms']:.2f} / {found['p95_ms']:.2f}"
    return {name: _short(one) for name, one in found.items()}


def main() -> None:
    given = _arguments()
    count = SCALES[given.scale]
    path = RESULTS / f"lexical-{given.scale}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if given.resume and path.exists() else {"scale": given.scale}
    asked = [" ".join(words) for words in zipf.queries(given.queries)]
    every = list(real.questions(given.data)) if given.data else []
    questions = every[:: max(1, len(every) // given.queries)][: given.queries]
    parts: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "zipf": lambda bench: bench.run(
            Corpus(lambda: zipf.documents(count), "simple", asked, _by_terms(given.queries // 4))
        ),
        "growth": lambda bench: bench.growth(count // 10, asked),
    }
    if given.data:
        parts["real"] = lambda bench: bench.run(
            Corpus(lambda: islice(real.chunks(given.data), count), "english", questions, real.by_terms(every))
        )
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with servers.ours(folder / "ours") as mine, servers.textsearch(folder / "textsearch") as theirs:
            bench = Bench(mine, theirs)
            with psycopg.connect(mine.address) as connection:
                found["versions"] = {"postgresql": connection.execute("show server_version").fetchone()[0]}
                found["processors"] = os.cpu_count()
            for part in (part for part in parts if part in given.parts and part not in found):
                found[part] = parts[part](bench)
                if part in ("zipf", "real"):
                    table(part, found[part])
                _write(path, found)
    if "growth" in found and "zipf" in found:
        ratio = found["zipf"]["systems"]["sql"]["p50_ms"] / found["growth"]["p50_ms"]
        print(f"\np50 of {count:,} documents to {count // 10:,}: {ratio:.1f}")
        found["growth"]["p50_ratio"] = ratio
        _write(path, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="20k")
    parser.add_argument("--data", type=Path, help="a folder of judged collections, for the real text")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--parts", nargs="*", default=["zipf", "real", "growth"])
    parser.add_argument("--resume", action="store_true", help="keep the parts that are in the results already")
    return parser.parse_args()


def _by_terms(count: int) -> dict[int, list[str]]:
    return {n: [" ".join(words) for words in zipf.queries(count, terms=(n, n), seed=100 + n)] for n in range(1, 9)}


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
