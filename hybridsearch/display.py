"""Tables and bars for the terminal, and the JSON forms of the same."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from hybridsearch.evaluation import Quality
from hybridsearch.explanation import Explanation
from hybridsearch.freshness import Failure
from hybridsearch.hits import Hit
from hybridsearch.model import SearchIndex
from hybridsearch.observation import SearchRecord
from hybridsearch.page import Page
from hybridsearch.status import Status


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or task.finished_speed or 0:,.0f} rows/s", style="progress.data.speed")


@contextmanager
def filling(console: Console, name: str, rows: int | None, waiting: int = 0) -> Iterator[Callable[[Page], None]]:
    """Show a progress bar (rows, rate, time left) while an index is filled; yields what to call after each page.

    Documents that are `waiting` come before any row is read, see `backfill`. On a terminal only: a file or a pipe gets
    the command's result and nothing else.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"indexing {name}", total=None if rows is None else rows + waiting)
        reads = False

        def advance(page: Page) -> None:
            nonlocal reads
            if page.read and not reads:
                reads = True
                progress.update(task, completed=waiting)  # other workers may have done some
            progress.advance(task, page.read if reads else page.written + page.removed)

        yield advance


def hits_table(query: str, hits: Sequence[Hit], index: SearchIndex, record: SearchRecord) -> Table:
    """Return hits as a table; the record of the search says what took how long."""
    encoding = record.stages.get("encode", 0.0)
    table = Table(
        title=Text(repr(query)),  # a str would be read as markup
        caption=f"encoding {encoding * 1000:.1f} ms, SQL {(record.seconds - encoding) * 1000:.1f} ms",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("rank", justify="right")
    table.add_column("document", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("score", justify="right")
    for leg in index.legs:
        table.add_column(leg, justify="right")
    for rank, hit in enumerate(hits, 1):
        ranks = [str(hit.ranks.get(leg, "–")) for leg in index.legs]
        table.add_row(str(rank), Text(label(hit, index)), f"{hit.score:.4f}", *ranks)
    return table


def label(hit: Hit | Explanation, index: SearchIndex) -> str:
    """Return one line that names a document: its title, or its first field."""
    shown = str(getattr(hit.document, index.title or next(iter(index.fields))) or "")
    return " ".join(shown.split()) or str(key_of(hit, index))


def key_of(hit: Hit | Explanation, index: SearchIndex) -> dict[str, Any]:
    """Return the primary key of a hit's document, by column."""
    return {key.name: getattr(hit.document, index.mapper.get_property_by_column(key).key) for key in index.keys}


def hits_as_json(hits: Sequence[Hit], index: SearchIndex) -> list[dict[str, Any]]:
    """Return hits as plain values."""
    return [
        {
            "rank": rank,
            "key": key_of(hit, index),
            "score": hit.score,
            "ranks": dict(hit.ranks),
            "fields": {name: getattr(hit.document, name) for name in index.fields},
            "chunk": hit.chunk.text if hit.chunk is not None else None,
        }
        for rank, hit in enumerate(hits, 1)
    ]


def status_table(found: Sequence[Status]) -> Table:
    """Return the figures of some indexes as a table, an index a column."""
    table = Table()
    table.add_column("index")
    for one in found:
        table.add_column(one.name, justify="right")
    weighed = any(one.weights or one.unweighed for one in found)
    for name, show in _STATUS_ROWS.items():
        if weighed or name not in _WEIGHED:
            table.add_row(name, *(show(one) for one in found))
    return table


_WEIGHED = {"term weights", "unmerged chunks"}  # of encoders with a sparse head
_STATUS_ROWS: dict[str, Callable[[Status], str]] = {
    "encoder": lambda one: one.encoder or "not filled",
    "rows": lambda one: f"{one.rows:,}",
    "documents": lambda one: f"{one.documents:,}",
    "chunks": lambda one: f"{one.chunks:,}",
    "HNSW index": lambda one: one.hnsw,
    "terms": lambda one: f"{one.terms:,}",
    "posting rows": lambda one: f"{one.blocks:,}",
    "postings": lambda one: f"{one.postings:,}",
    "dead postings": lambda one: f"{one.dead:.1%}",
    "pending documents": lambda one: f"{one.pending:,}",
    "term weights": lambda one: f"{one.weights:,}",
    "unmerged chunks": lambda one: f"{one.unweighed:,}",
    "average length": lambda one: f"{one.average_length:.1f} words",
    "size": lambda one: f"{one.bytes / 2**20:.1f} MB",
    "changed rows": lambda one: f"{one.changed:,}",
    "not found by words": lambda one: f"{one.words_behind:,}",
    "queued for vectors": lambda one: f"{one.queued:,}",
    "after an error": lambda one: f"{one.retrying:,}",
    "set aside": lambda one: f"{one.failed:,}",
    "lag": lambda one: f"{one.lag:.1f} s",
    "rate": lambda one: f"{one.rate:.1f} documents/s",
    "workers": lambda one: f"{one.workers}",
}


def advice(one: Status) -> Iterator[str]:
    """Yield what is wrong with an index and what to do, each in a sentence."""
    if one.hnsw != "valid":
        build = (
            "it is being built"
            if one.hnsw == "building"
            else "`hybridsearch index` builds it, a worker that may as well"
        )
        yield f"{one.name} has no HNSW index: searches by meaning compare all {one.chunks:,} chunks; {build}"
    if one.words_behind:
        do = "workers are at it" if one.workers else "start `hybridsearch worker`"
        yield f"{one.name}: {one.words_behind:,} changed rows are not found by their words yet; {do}"
    if one.numbers >= RUNNING_OUT:
        again = "`hybridsearch index --rebuild`, as the owner of its tables, begins again"
        yield f"{one.name} has used up {one.numbers:.0%} of its documents' numbers; {again}"


RUNNING_OUT = 3 / 4  # of the numbers


def failures_table(found: Sequence[tuple[str, Failure]]) -> Table:
    """Return documents with errors as a table, under the names of their indexes."""
    table = Table(title="documents that could not be encoded", title_justify="left")
    for heading in ("index", "document", "attempts", "set aside", "error"):
        table.add_column(heading)
    for name, one in found:
        when = "" if one.failed_at is None else f"{one.failed_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(name, Text(", ".join(map(str, one.key))), str(one.attempts), when, Text(one.error))
    return table


def quality_table(name: str, found: Sequence[Quality]) -> Table:
    """Return the quality of some systems on one collection as a table."""
    table = Table(title=f"{name}, {found[0].queries} judged queries", title_justify="left")
    table.add_column("system")
    for heading in ("nDCG@10", "recall@100", "MRR"):
        table.add_column(heading, justify="right")
    for one in found:
        table.add_row(one.system, f"{one.ndcg:.3f}", f"{one.recall:.3f}", f"{one.mrr:.3f}")
    return table
