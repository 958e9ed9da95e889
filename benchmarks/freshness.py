"""What it costs to keep an index fresh: the triggers, the lag, a backfill beside the encoder's own rate.

    python -m benchmarks.freshness [triggers] [updates] [lag] [backfill] [graph] [memory]   # writes results/

Triggers are measured with and without by turns, in the server's processor time (the backend's, from /proc), which other
work on the machine does not lengthen; the lag and the rates are of the clock.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, create_engine, insert, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.freshness_memory import memory
from benchmarks.freshness_updates import updates
from hybridsearch import SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.encoders.minilm import MiniLMEncoder
from hybridsearch.schema import migrate
from hybridsearch.worker import running
from tests.support.servers import own_server

RESULTS = Path(__file__).parent / "results" / "freshness.json"
# Words that are one piece to the encoder: 60 of them are 60 tokens.
PIECES = (files("hybridsearch.encoders") / "data" / "minilm-vocab.txt").read_text("utf-8").split("\n")
VOCABULARY = [piece for piece in PIECES if piece.isalpha() and piece.isascii() and len(piece) > 2][:8000]


class Base(DeclarativeBase):
    pass


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    body: Mapped[str]
    views: Mapped[int] = mapped_column(server_default="0")


index = SearchIndex(Article, fields={"title": 2.0, "body": 1.0}, encoder=MiniLMEncoder(threads=1), config="english")


def body(chance: random.Random, words: int = 60) -> str:
    return " ".join(chance.choices(VOCABULARY, k=words))


def main() -> None:
    parts: dict[str, Callable[[Engine], dict[str, Any]]] = {
        "triggers": triggers,
        "updates": updates,
        "lag": lag,
        "backfill": filling,
        "graph": graph,
        "memory": memory,
    }
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with own_server() as address:
        for name in sys.argv[1:] or parts:
            engine = create_engine(address)
            with engine.begin() as connection:
                connection.execute(text("drop schema if exists hybridsearch cascade"))
                Base.metadata.drop_all(connection)
                migrate(connection)
                Base.metadata.create_all(connection)
            found[name] = parts[name](engine)
            print(name, json.dumps(found[name], indent=2))
            engine.dispose()
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


# Triggers


def triggers(engine: Engine) -> dict[str, Any]:
    chance = random.Random(1)
    rows = [{"title": f"Title {n}", "body": body(chance)} for n in range(1000)]
    select = (
        "insert into article (title, body) "
        "select 'Title ' || n, repeat('some words ', 30) || n from generate_series(1, {}) as n"
    )

    def orm(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            session.add_all(Article(**row) for row in rows)
            session.flush()

    def copy(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        with driver.cursor() as cursor, cursor.copy("copy article (title, body) from stdin") as stream:
            for row in rows:
                stream.write_row((row["title"], row["body"]))

    def statement(sql: str) -> Callable[[Connection], object]:
        return lambda connection: connection.execute(text(sql))

    cases: dict[str, tuple[int, Callable[[Connection], object]]] = {
        "insert of 1,000 rows by the ORM, one statement": (30, orm),
        "1,000 inserts of one row, in a pipeline": (15, lambda connection: connection.execute(insert(Article), rows)),
        "insert of 1,000 rows by COPY": (30, copy),
        "insert of 1,000 rows by INSERT … SELECT": (30, statement(select.format(1000))),
        "insert of 100,000 rows by INSERT … SELECT": (5, statement(select.format(100_000))),
        "update of a column that is not indexed, 1 row": (
            100,
            statement("update article set views = views + 1 where id = 77"),
        ),
        "update of a column that is not indexed, 20,000 rows": (
            8,
            statement("update article set views = views + 1 where id <= 20000"),
        ),
        "update of an indexed column, 1,000 rows": (
            30,
            statement("update article set title = title || 'x' where id <= 1000"),
        ),
        "delete of 1,000 rows": (30, statement("delete from article where id between 5000 and 5999")),
    }
    with engine.begin() as connection:
        connection.execute(text(select.format(20_000)))
        connection.execute(text("truncate article_change"))
        connection.execute(text("analyze"))
    return {name: _overhead(engine, times, work) for name, (times, work) in cases.items()}


def _overhead(engine: Engine, times: int, work: Callable[[Connection], object]) -> dict[str, float]:
    """Milliseconds without and with the triggers, each the mean of the faster half; every run is rolled back."""
    taken: dict[bool, list[float]] = {False: [], True: []}
    clock: dict[bool, list[float]] = {False: [], True: []}
    with engine.connect() as connection:
        backend = Path(f"/proc/{connection.scalar(text('select pg_backend_pid()'))}/schedstat")
        connection.rollback()
        for turn in range(2 * times + 2):
            enabled = turn % 2 == 1
            connection.execute(text(f"alter table article {'enable' if enabled else 'disable'} trigger user"))
            for replica in ("changed_row", "updated_row"):
                connection.execute(text(f"alter table article enable replica trigger article_{replica}"))
            used, began = int(backend.read_text().split()[0]), time.perf_counter()
            work(connection)
            clock[enabled].append((time.perf_counter() - began) * 1000)
            taken[enabled].append((int(backend.read_text().split()[0]) - used) / 1e6)
            connection.rollback()
    without, with_ = (statistics.mean(sorted(taken[on][1:])[: times // 2 or 1]) for on in (False, True))
    wall = [statistics.mean(sorted(clock[on][1:])[: times // 2 or 1]) for on in (False, True)]
    return {
        "without_ms": round(without, 3),
        "with_ms": round(with_, 3),
        "overhead": round(with_ / without - 1, 3),
        "clock_overhead": round(wall[1] / wall[0] - 1, 3),
    }


# Lag


def lag(engine: Engine, seconds: float = 40.0, rate: float = 20.0) -> dict[str, float]:
    """Write so many rows a second beside a worker; the time from each commit to its vectors."""
    chance = random.Random(2)
    committed: dict[int, Any] = {}
    with running(engine, [index]), engine.connect() as connection:
        index.encoder.encode_documents(["warm"])
        time.sleep(1)
        began = time.monotonic()
        for number in range(int(seconds * rate)):
            connection.execute(insert(Article).values(id=number + 1, title=f"Title {number}", body=body(chance)))
            committed[number + 1] = connection.scalar(text("select clock_timestamp()"))
            connection.commit()
            time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
        written = time.monotonic() - began
        time.sleep(5)
    with engine.connect() as connection:
        rows = connection.execute(
            text("select article_id, encoded_at from article_document where encoded_at is not null")
        )
        lags = sorted((row.encoded_at - committed[row.article_id]).total_seconds() for row in rows)
    return {
        "writes_a_second": round(len(committed) / written, 1),
        "written": len(committed),
        "encoded": len(lags),
        "p50_s": round(lags[len(lags) // 2], 3),
        "p95_s": round(lags[int(len(lags) * 0.95)], 3),
        "most_s": round(lags[-1], 3),
    }


# Backfill


def filling(engine: Engine, rows: int = 1500) -> dict[str, float]:
    """The encoder alone, and the backfill of the same texts, by turns in four parts."""
    chance = random.Random(3)
    alone = together = 0.0
    for part in range(4):
        texts = [body(chance) for _ in range(rows // 4)]
        titles = [f"Title {part}-{number}" for number in range(len(texts))]
        with engine.begin() as connection:
            connection.execute(
                insert(Article), [{"title": title, "body": one} for title, one in zip(titles, texts, strict=True)]
            )
        began = time.perf_counter()
        for start in range(0, len(texts), 32):
            both = zip(titles[start : start + 32], texts[start : start + 32], strict=True)
            index.encoder.encode_documents([f"{title}\n\n{one}" for title, one in both])
        alone += time.perf_counter() - began
        began = time.perf_counter()
        backfill(engine, index)
        together += time.perf_counter() - began
    return {
        "rows": rows,
        "encoder_documents_a_second": round(rows / alone, 1),
        "backfill_documents_a_second": round(rows / together, 1),
        "share_of_the_encoder": round(alone / together, 3),
    }


# Graph


def graph(engine: Engine, vectors: int = 20_000) -> dict[str, float]:
    """Seconds of loading chunks under an HNSW index, and of loading them first and building it then."""
    chance = np.random.default_rng(1)
    # Of 32 dimensions, turned into 384: real vectors are as much alike.
    points = chance.standard_normal((vectors, 32)) @ chance.standard_normal((32, index.storage.dimensions))
    texts = ["[" + ",".join(f"{value:.4g}" for value in point) + "]" for point in points]

    def load(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        columns = "article_id, ordinal, start, stop, text, dense"
        with driver.cursor() as cursor, cursor.copy(f"copy article_chunk ({columns}) from stdin") as stream:
            for number, one in enumerate(texts):
                stream.write_row((number, 0, 0, 4, "text", one))

    def build(connection: Connection) -> None:
        connection.execute(text("set maintenance_work_mem = '256MB'"))
        connection.execute(text(definition))

    found = {}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        definition = connection.scalar(text("select pg_get_indexdef('article_chunk_dense_idx'::regclass)"))
        for name, work in (("grown_s", load), ("loaded_s", load), ("built_s", build)):
            if name == "loaded_s":
                connection.execute(text("truncate article_chunk"))
                connection.execute(text("drop index article_chunk_dense_idx"))
            began = time.perf_counter()
            work(connection)
            found[name] = round(time.perf_counter() - began, 1)
    return {"vectors": vectors, **found, "ratio": round(found["grown_s"] / (found["loaded_s"] + found["built_s"]), 1)}


if __name__ == "__main__":
    main()
