"""The size of the index under updates: `python benchmarks/lexical/updates.py --documents 100000 --updates 1000000`.

Random rows get another text, in commits of 500; a worker's first stage indexes the words, and merges and cleans as it
goes; autovacuum is the server's own. Prints the size of the index beside that of a fresh build, in tenths of the run,
and writes benchmarks/results/lexical-updates.json.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import psycopg
import servers
import zipf
from sqlalchemy import create_engine, update
from sqlalchemy.orm import Session
from systems import Sql, load

from hybridsearch.connect import sqlalchemy_url
from hybridsearch.postings import clean, compact, pending_count, rebuild
from hybridsearch.status import status
from hybridsearch.words import index_words

COMMIT = 500  # rows
MERGE = 16_000  # pending rows
DEAD = 0.2  # the share of dead postings at which they are dropped
RESULTS = Path(__file__).parents[1] / "results"


def run(address: str, documents: int, updates: int) -> list[float]:
    connection = psycopg.connect(address, autocommit=True)
    load(connection, zipf.documents(documents))
    connection.execute("alter system set autovacuum_naptime = '10s'")
    connection.execute("select pg_reload_conf()")
    texts = (body for _, body in zipf.documents(2**31, seed=7))
    engine = create_engine(sqlalchemy_url(address))
    sql = Sql(engine, connection, "simple")
    print(f"built in {sql.build():.0f} s", flush=True)
    chance, sizes = random.Random(3), [float(sql.size() + sql.forward_size())]
    with Session(engine) as session:
        for done in range(COMMIT, updates + 1, COMMIT):
            keys = chance.sample(range(1, documents + 1), COMMIT)
            session.execute(update(sql.index.model), [{"id": key, "body": next(texts)} for key in keys])
            session.commit()
            while index_words(session, sql.index, wait=True):
                session.commit()
            if pending_count(session, sql.index) >= MERGE:
                _upkeep(session, sql)
            session.commit()
            if done % (updates // 10) == 0:
                _upkeep(session, sql)
                sizes.append(float(sql.size() + sql.forward_size()))
                print(f"{done:,} updates: {sizes[-1] / sizes[0]:.2f} times the size", flush=True)
        for _ in rebuild(session, sql.index):
            session.commit()
    time.sleep(30)  # autovacuum
    print(f"after a rebuild: {(sql.size() + sql.forward_size()) / sizes[0]:.2f}")
    return sizes


def _upkeep(session: Session, sql: Sql) -> None:
    while compact(session, sql.index):
        session.commit()
    if status(session, sql.index).dead > DEAD:
        for _ in clean(session, sql.index):
            session.commit()
    session.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-") as name:
        Path(name).chmod(0o755)
        with servers.ours(Path(name) / "ours") as server:
            sizes = run(server.address, given.documents, given.updates)
    found = {"documents": given.documents, "updates": given.updates, "ratios": [size / sizes[0] for size in sizes]}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "lexical-updates.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
