"""The commands that keep indexes in line with their tables: index, worker, status, retry, forget, compact."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from typing import Annotated

import typer
from sqlalchemy import URL
from sqlalchemy.orm import Session

from hybridsearch import queue
from hybridsearch.application import connected
from hybridsearch.backfill import backfill
from hybridsearch.backfill import upkeep as merge
from hybridsearch.cli_base import App, AsJson, Database, IndexName, chosen_indexes, console, print_json
from hybridsearch.database import explained
from hybridsearch.display import advice, failures_table, filling, status_table
from hybridsearch.engines import engine_of
from hybridsearch.errors import ConfigurationError
from hybridsearch.freshness import failures, freshness, prometheus_text
from hybridsearch.graph import Estimate
from hybridsearch.indexing import count_rows
from hybridsearch.queue import Limits
from hybridsearch.status import status as read_status
from hybridsearch.worker import Worker

upkeep = typer.Typer()
Batch = Annotated[int, typer.Option("--batch", min=1, max=1000, help="Documents that are encoded together.")]
Deadline = Annotated[float, typer.Option("--deadline", min=0.1, help="Seconds that one call of the encoder may take.")]


@upkeep.command()
def index(
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Empty the index first.")] = False,
    throttle: Annotated[
        float | None, typer.Option("--throttle", min=0.1, help="Rows a second, at most, read or written.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that encode.")] = 1,
    batch: Batch = 32,
) -> None:
    """Bring indexes in line with their tables: only new and changed rows are encoded. A stopped run goes on."""
    if throttle is not None and workers > 1:
        raise ConfigurationError("--throttle holds back this process alone: give it, or --workers")
    with connected(database) as engine:
        for chosen in chosen_indexes(app, index):
            with explained(chosen), Session(engine) as session:
                rows = count_rows(session, chosen)
                waiting = 0 if rebuild else queue.outstanding(session, chosen)
            helpers = _Helpers(workers - 1, app, chosen.name, engine.url)
            with filling(console, chosen.name, rows, waiting) as advance:
                total = backfill(
                    engine,
                    chosen,
                    rebuild=rebuild,
                    throttle=throttle,
                    page_size=256 * workers,
                    limits=Limits(batch=batch),
                    beside=helpers.running,
                    on_page=advance,
                    on_postponed=partial(_announced, "after the load: the HNSW index of at least"),
                    on_graph=partial(_announced, "building the HNSW index of"),
                )
            done = f"{total.read:,} rows read, {total.written:,} written, {total.removed:,} removed"
            console.print(f"{chosen.name}: {done}", markup=False)


def _announced(what: str, graph: Estimate) -> None:
    """Say what building the graph takes, before it begins."""
    size, memory = (f"{number / 2**20:,.0f} MB" for number in (graph.bytes, graph.memory))
    console.print(f"{what} {graph.vectors:,} vectors: about {size} of memory", markup=False)
    if not graph.fits:
        console.print(
            f"maintenance_work_mem is {memory}: the build leaves memory, and slows down many times; raise it for the "
            f"role, alter role … set maintenance_work_mem = '{-(-graph.bytes // 2**20)}MB', and start again",
            markup=False,
        )


class _Helpers:
    """Worker processes that take part while an index is filled."""

    def __init__(self, number: int, app: str | None, index: str, address: URL) -> None:
        self.number = number
        self.command = [sys.executable, "-m", "hybridsearch.cli", "worker", "--index", index]
        self.command += ["--app", app] if app else []
        # Everybody on the machine may read a command, with its password; the environment is the user's.
        self.environment = os.environ | {"DATABASE_URL": address.render_as_string(hide_password=False)}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run them for as long as the block runs; say so where one has ended before."""
        processes = [subprocess.Popen(self.command, env=self.environment) for _ in range(self.number)]
        try:
            yield
        finally:
            ended = [process.returncode for process in processes if process.poll() is not None]
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
            if ended:
                said = f"{len(ended)} of {self.number} helping processes ended early, with status {ended[0]}"
                console.print(f"{said}: the others did their share", markup=False)


@upkeep.command()
def worker(
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    once: Annotated[bool, typer.Option("--once", help="Do what there is to do, and end.")] = False,
    batch: Batch = 32,
    deadline: Deadline = 120.0,
    attempts: Annotated[int, typer.Option("--attempts", min=1, help="Tries before a document is set aside.")] = 5,
) -> None:
    """Index what changes, as it changes, until SIGTERM or SIGINT. Any number of workers, on any number of machines."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    limits = Limits(batch=batch, deadline=deadline, lease=max(900.0, 4 * deadline), attempts=attempts)
    with connected(database) as engine:
        one = Worker(engine, list(chosen_indexes(app, index)), limits=limits)
        if once:
            one.once()
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: one.stop())
        one.run()


@upkeep.command()
def status(
    database: Database = None,
    app: App = None,
    as_json: AsJson = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Print how fresh they are, for Prometheus.")] = False,
) -> None:
    """Show what each index holds, how far it is behind its table, and which documents could not be encoded."""
    found, wrong, behind = [], [], []
    with connected(database) as engine:
        for chosen in chosen_indexes(app, None):
            with explained(chosen), Session(engine) as session:
                if prometheus:
                    behind.append(freshness(session, chosen))
                    continue
                found.append(read_status(session, chosen))
                wrong += [(chosen.name, failure) for failure in failures(session, chosen)]
    if prometheus:
        sys.stdout.write(prometheus_text(behind))
    elif as_json:
        print_json([asdict(one) for one in found])
    else:
        console.print(status_table(found))
        for said in chain.from_iterable(map(advice, found)):
            console.print(said, markup=False)
        if wrong:
            console.print(failures_table(wrong))


@upkeep.command()
def retry(database: Database = None, app: App = None, index: IndexName = None) -> None:
    """Let documents that were set aside, or wait after an error, be tried again now."""
    with connected(database) as engine:
        for chosen in chosen_indexes(app, index):
            with explained(chosen), Session(engine) as session, session.begin():
                number = queue.retry(session, chosen)
            console.print(f"{chosen.name}: {number:,} documents are tried again", markup=False)


@upkeep.command()
def forget(database: Database = None, app: App = None, index: IndexName = None) -> None:
    """Give up the documents that were set aside: they are found by their words alone, until they change."""
    with connected(database) as engine:
        for chosen in chosen_indexes(app, index):
            with explained(chosen), Session(engine) as session, session.begin():
                number = queue.forget(session, chosen)
            console.print(f"{chosen.name}: {number:,} documents are tried no more", markup=False)


@upkeep.command()
def compact(
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Write all postings anew, beside the old ones.")] = False,
) -> None:
    """Merge pending documents into the postings, and drop those of removed documents. Searches go on meanwhile."""
    with connected(database) as engine:
        for chosen in chosen_indexes(app, index):
            if rebuild:
                with explained(chosen), Session(engine) as session:
                    for _ in engine_of(chosen).rebuild(session, chosen):
                        session.commit()
            done = merge(engine, chosen)
            shown = f"{done.merged:,} documents merged, {done.cleaned:,} dead postings dropped"
            console.print(f"{chosen.name}: {shown}", markup=False)
