"""The size of the index under updates: `python benchmarks/lexical/updates.py --documents 100000 --updates 1000000`.

Random rows get another text, in commits of 500; what a worker does is done in turn with them, by its own functions and
at its own intervals; autovacuum is the server's own. Prints the size of the index beside that of a fresh build, in
tenths of the run and after a rebuild, and writes benchmarks/results/lexical-updates.json.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import servers
import zipf
from sqlalchemy import Engine, create_engine, update
from sqlalchemy.orm import Session, sessionmaker
from systems import Connection, Sql, load

from hybridsearch.companions import RANGE
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.idle import idle
from hybridsearch.postings import rebuild
from hybridsearch.stages import step_upkeep, step_words
from hybridsearch.vacuum import Sweeper
from hybridsearch.worker import POLL, UPKEEP

COMMIT = 500  # rows
RESULTS = Path(__file__).parents[1] / "results"


def run(address: str, documents: int, updates: int) -> Iterator[tuple[str, float, dict[str, int]]]:
    """Yield of the fresh build, each tenth of the run, and a rebuild its name, seconds, bytes of each relation."""
    connection = psycopg.connect(address, autocommit=True)
    load(connection, zipf.documents(documents))
    engine = create_engine(sqlalchemy_url(address))
    sql = Sql(engine, connection, "simple")
    yield "fresh build", sql.build(), relations(connection, sql)
    work, begun = Work(engine, sql), time.perf_counter()
    texts = (body for _, body in zipf.documents(2**31, seed=7))
    chance = random.Random(3)
    for done in range(COMMIT, updates + 1, COMMIT):
        keys = chance.sample(range(1, documents + 1), COMMIT)
        with Session(engine) as session, session.begin():
            session.execute(update(sql.index.model), [{"id": key, "body": next(texts)} for key in keys])
        work.follow()
        if done % (updates // 10) == 0:
            yield f"{done:,} updates", time.perf_counter() - begun, relations(connection, sql)
    begun = time.perf_counter()
    work.rebuild()
    yield "a rebuild", time.perf_counter() - begun, relations(connection, sql)


class Work:
    """A worker's, without the vectors."""

    def __init__(self, engine: Engine, sql: Sql) -> None:
        self.engine, self.index = engine, sql.index
        self.begin = sessionmaker(engine).begin
        self.sweeper = Sweeper(engine)
        self.due = time.monotonic() + POLL

    def follow(self) -> None:
        """Index the words of what has changed, merge, vacuum; and once a minute what can wait."""
        while step_words(self.begin, self.index):
            pass
        while step_upkeep(self.begin, self.index):
            pass
        self.sweeper.sweep(self.index)
        if time.monotonic() > self.due:
            for _ in idle(self.begin, self.index):
                self.sweeper.sweep(self.index)
            self.due = time.monotonic() + UPKEEP * POLL

    def rebuild(self) -> None:
        """Write the index anew, in steps as small as they can be."""
        with Session(self.engine) as session:
            for _ in rebuild(session, self.index, most=RANGE):
                session.commit()
                self.sweeper.sweep(self.index)


def relations(connection: Connection, sql: Sql) -> dict[str, int]:
    """Return the bytes of the companions: of rows, of what is stored out of line with its index, of indexes."""
    sizes = "pg_relation_size(o), pg_table_size(o) - pg_relation_size(o), pg_indexes_size(o)"
    found = {}
    for table in (sql.index.postings, sql.index.terms, sql.index.pending, sql.index.documents):
        row = connection.execute(f"select {sizes} from (select to_regclass(%s) as o) as t", (table.name,)).fetchone()
        assert row is not None
        for part, size in zip(("rows", "out of line", "indexes"), row, strict=True):
            found[f"{table.name.removeprefix('source_')} {part}"] = int(size)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=1_000_000)
    given = parser.parse_args()
    steps: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-") as name:
        Path(name).chmod(0o755)
        with servers.ours(Path(name) / "ours") as server:
            fresh = 0
            for after, seconds, sizes in run(server.address, given.documents, given.updates):
                total = sum(sizes.values())
                fresh = fresh or total
                steps.append({"after": after, "seconds": seconds, "ratio": total / fresh, "bytes": sizes})
                print(f"{after}: {seconds:.0f} s, {total / 2**20:.0f} MB, {total / fresh:.2f} times", flush=True)
    found = {"documents": given.documents, "updates": given.updates, "steps": steps}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "lexical-updates.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
