"""Load on the example service: so many clients for so long. `make load`, or python -m benchmarks.load --clients 50

Clients, service and PostgreSQL share the machine: with fewer cores than they want, times say how they share.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import URL, make_url

from hybridsearch.connect import sqlalchemy_url
from hybridsearch.embedded import start
from tests.support.http_service import served

ROOT = Path(__file__).resolve().parents[1]
QUERIES = ROOT / "examples" / "shop" / "data" / "queries.jsonl"


@dataclass
class Outcome:
    """What the clients saw: seconds of each answer, statuses, what did not answer at all."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    degraded: int = 0
    elapsed: float = 0.0

    def quantile(self, share: float) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[round(share * 100) - 1]


def requests(ids: Sequence[int]) -> list[tuple[str, dict[str, str | int]]]:
    """What buyers do: search, with filters, counts, what is similar; and the shop looks at scores."""
    texts = [json.loads(line)["text"] for line in QUERIES.read_text(encoding="utf-8").splitlines()]
    asked: list[tuple[str, dict[str, str | int]]] = []
    for place, query in enumerate(texts):
        asked.append(("/search", {"q": query}))
        if place % 3 == 0:
            asked.append(("/search", {"q": query, "dearest": 100}))
        if place % 4 == 0:
            asked.append(("/facets", {"q": query}))
        if place % 5 == 0 and ids:
            asked.append((f"/products/{ids[place % len(ids)]}/similar", {}))
        if place % 10 == 0:
            asked.append(("/explain", {"q": query}))
    return asked


async def drive(address: str, *, clients: int, seconds: float) -> Outcome:
    """Let clients ask, each one question after the other, for so many seconds."""
    outcome = Outcome()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as http:
        first = (await http.get("/search", params={"q": "bag", "limit": 50})).json()
        turns = itertools.cycle(requests([hit["id"] for hit in first["hits"]]))
        begun = time.perf_counter()
        await asyncio.gather(*(_client(http, turns, begun + seconds, outcome) for _ in range(clients)))
        outcome.elapsed = time.perf_counter() - begun
    return outcome


async def _client(
    http: httpx.AsyncClient, turns: Iterator[tuple[str, dict[str, str | int]]], end: float, outcome: Outcome
) -> None:
    while time.perf_counter() < end:
        path, params = next(turns)
        begun = time.perf_counter()
        try:
            answer = await http.get(path, params=params)
        except httpx.HTTPError as error:
            outcome.failures.append(f"{type(error).__name__}: {error}")
            continue
        outcome.seconds.append(time.perf_counter() - begun)
        outcome.statuses[answer.status_code] += 1
        if path == "/search" and answer.status_code == 200:
            outcome.degraded += answer.json()["degraded"]


@contextmanager
def database() -> Iterator[URL]:
    """DATABASE_URL, or a PostgreSQL of its own."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield sqlalchemy_url(given)
        return
    with tempfile.TemporaryDirectory(prefix="hybridsearch-load-", ignore_cleanup_errors=True) as folder:
        yield make_url(start(Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--pool", type=int, default=2 * (os.cpu_count() or 1))
    options = parser.parse_args()
    with database() as url:
        os.environ["DATABASE_URL"] = url.render_as_string(hide_password=False)
        from examples.shop import prepare

        prepare.main()
        settings = {"SHOP_POOL": str(options.pool), "SHOP_PATIENCE": "30", "SHOP_DEADLINE": "30"}
        with served("benchmarks.load_app:app", url, **settings) as address:
            asyncio.run(drive(address, clients=2, seconds=2))  # plans, caches, the encoder's model
            httpx.get(f"{address}/probe")
            outcome = asyncio.run(drive(address, clients=options.clients, seconds=options.seconds))
            probe = httpx.get(f"{address}/probe").json()
    report(options.clients, outcome, probe)


def report(clients: int, outcome: Outcome, probe: dict[str, float]) -> None:
    wrong = {status: count for status, count in outcome.statuses.items() if status != 200}
    print(f"{clients} clients, {outcome.elapsed:.0f} s, {os.cpu_count()} cores for clients, service and PostgreSQL")
    print(f"answers      {sum(outcome.statuses.values()):,}, {len(outcome.seconds) / outcome.elapsed:.0f} a second")
    print(f"not 200      {sum(wrong.values())} {wrong or ''}")
    print(f"no answer    {len(outcome.failures)} {outcome.failures[:3] or ''}")
    print(f"degraded     {outcome.degraded}")
    times = " / ".join(f"{outcome.quantile(share) * 1000:.0f}" for share in (0.5, 0.95, 0.99))
    print(f"p50/p95/p99  {times} ms")
    for name, what in (("", "blocked for"), ("_work", "of that by work of its own")):
        longest, p99 = probe["longest" + name] * 1000, probe["p99" + name] * 1000
        print(f"event loop   {what} {longest:.0f} ms at the longest, p99 {p99:.0f} ms")


if __name__ == "__main__":
    main()
