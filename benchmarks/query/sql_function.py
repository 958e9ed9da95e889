"""The search function of an index in SQL, on the example's 2,000 products: `make bench-sql`.

A query that nobody has encoded goes through dblink to a worker, here a thread; the same again comes from the cache. In
turn with them the encoder alone, on the same queries. Prints milliseconds, writes benchmarks/results/query-sql.json.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "lexical"))
sys.path.insert(0, str(Path(__file__).parents[2]))
import servers
from sqlalchemy import Connection, create_engine, select, text
from sqlalchemy.orm import Session

from examples.shop import Base, load, products
from examples.shop.models import Product
from hybridsearch.backfill import backfill
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.requests import answering
from hybridsearch.schema import migrate

RESULT = Path(__file__).parents[1] / "results" / "query-sql.json"
QUERIES = 200
CALL = text("select * from product_search(:query, wait_ms => 5000)")


def timed(work: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = work()
    return (time.perf_counter() - begun) * 1000, result


def measure(connection: Connection, queries: list[str]) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {
        "encoder alone": [],
        "with a worker": [],
        "beyond the encoder": [],
        "from the cache": [],
    }
    for query in queries:
        alone, _ = timed(lambda asked=query: products.encoder.encode_queries([asked]))
        asked, rows = timed(lambda asked=query: connection.execute(CALL, {"query": asked}).all())
        assert {row.note for row in rows} <= {None}
        again, _ = timed(lambda asked=query: connection.execute(CALL, {"query": asked}).all())
        connection.rollback()
        for name, value in zip(times, (alone, asked, asked - alone, again), strict=True):
            times[name].append(value)
    return {
        name: {"p50_ms": statistics.median(values), "p95_ms": sorted(values)[int(len(values) * 0.95)]}
        for name, values in times.items()
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hybridsearch-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with servers.ours(Path(folder) / "postgres") as server:
            engine = create_engine(sqlalchemy_url(server.address))
            with engine.begin() as connection:
                migrate(connection)
                connection.execute(text("create extension dblink"))
                Base.metadata.create_all(connection)
            with Session(engine) as session, session.begin():
                load.load(session)
            backfill(engine, products)
            with engine.connect() as connection:
                titles = connection.scalars(select(Product.title).order_by(Product.id).limit(QUERIES)).all()
            # What people type is a few words.
            queries = list(dict.fromkeys(" ".join(title.split()[:4]) for title in titles))
            with answering(engine, [products]), engine.connect() as connection:
                while any(row.note for row in connection.execute(CALL, {"query": "until the worker is there"})):
                    connection.rollback()
                found = measure(connection, queries)
            engine.dispose()
    for name, one in found.items():
        print(f"{name:20} p50 {one['p50_ms']:7.2f} ms   p95 {one['p95_ms']:7.2f} ms")
    RESULT.write_text(json.dumps({"queries": len(queries), "products": 2000, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
