"""Times of queries, of systems that take turns.

times = take_turns({"sql": search, "ts_rank": other}, queries)     # milliseconds of each query, by system
summary(times["sql"])                                               # {"p50_ms": …, "p95_ms": …}
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Search = Callable[[str], Any]


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def timed(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def take_turns(systems: Mapping[str, Search], queries: Sequence[str], *, passes: int = 2) -> dict[str, list[float]]:
    """Milliseconds of every query on every system, systems in turn; the last pass is the one that counts.

    In turn, so that ratios hold on a machine that is not quiet; a pass before it warms.
    """
    times: dict[str, list[float]] = {}
    for _ in range(passes):
        times = {name: [] for name in systems}
        for query in queries:
            for name, search in systems.items():
                times[name].append(timed(lambda search=search, query=query: search(query)))
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    return {"p50_ms": statistics.median(times), "p95_ms": percentile(times, 0.95)}


def summaries(times: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    return {name: summary(values) for name, values in times.items()}


def processor_seconds(connection: Any) -> float:
    """Return the processor time that a server on this machine has taken so far, all its processes together (Linux)."""
    folder = Path(connection.execute("show data_directory").fetchone()[0])
    leader = int((folder / "postmaster.pid").read_text().split()[0])
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended: its leader has its time
            continue
        if int(path.parent.name) == leader:
            total += sum(map(int, fields[11:15]))  # its own, and that of processes that have ended
        elif int(fields[1]) == leader:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
