"""The command line: parses, calls one function of the library, prints.

hybridsearch search "red chair" --app shop.models
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

from hybridsearch.errors import HybridSearchError, MissingDependency

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise SystemExit("error: " + str(MissingDependency("the command line", "cli"))) from error

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch.application import choose, connect, find_indexes
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.database import explained
from hybridsearch.demo import demo as run_demo
from hybridsearch.display import filling, hits_as_json, hits_table, quality_table, status_table
from hybridsearch.evaluation import evaluate
from hybridsearch.indexing import count_rows
from hybridsearch.schema import migrate as apply_migrations
from hybridsearch.searcher import HybridSearch
from hybridsearch.status import status as read_status

app = typer.Typer(
    help="Hybrid search inside the PostgreSQL you already have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()

Database = Annotated[
    str | None, typer.Option("--database", envvar="DATABASE_URL", help="postgresql://user:password@host:5432/name")
]
App = Annotated[
    str | None,
    typer.Option(
        "--app", help="The module that declares the indexes (else [tool.hybridsearch] app in pyproject.toml)."
    ),
]
IndexName = Annotated[str | None, typer.Option("--index", help="The index, where the application has several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def demo(database: Database = None) -> None:
    """Play a user's story on 2,000 products: migrate, index, search, beside plain full-text search."""
    run_demo(console, database)


@app.command()
def migrate(database: Database = None) -> None:
    """Bring the schema "hybridsearch" of a database to this version. Safe to repeat, and to run twice at once."""
    engine = connect(database)
    with explained(), engine.begin() as connection:
        ran = apply_migrations(connection)
    console.print(f"applied {', '.join(ran)}" if ran else "nothing to do: the schema is up to date")


@app.command()
def index(
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Empty the index first.")] = False,
) -> None:
    """Bring indexes in line with their tables: only new and changed rows are encoded."""
    engine = connect(database)
    indexes = find_indexes(app)
    for chosen in [choose(indexes, index)] if index else indexes.values():
        with explained(chosen), Session(engine) as session:
            rows = count_rows(session, chosen)
        with filling(console, chosen.name, rows) as advance:
            total = backfill(engine, chosen, rebuild=rebuild, on_page=advance)
        console.print(f"{chosen.name}: {total.read:,} rows read, {total.written:,} written, {total.removed:,} removed")


@app.command()
def compact(database: Database = None, app: App = None, index: IndexName = None) -> None:
    """Merge pending documents into the postings, and drop those of removed documents. Searches go on meanwhile."""
    engine = connect(database)
    indexes = find_indexes(app)
    for chosen in [choose(indexes, index)] if index else indexes.values():
        done = upkeep(engine, chosen)
        console.print(f"{chosen.name}: {done.merged:,} documents merged, {done.cleaned:,} dead postings dropped")


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many documents, 1 to 1,000.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Search an index: rank, document, score, and the rank in each leg."""
    engine = connect(database)
    searcher = HybridSearch(choose(find_indexes(app), index))
    begun = time.perf_counter()
    encoded = searcher.encode(query)
    encoding = time.perf_counter() - begun
    with Session(engine) as session:
        begun = time.perf_counter()
        hits = searcher.search(session, encoded, limit=limit)
        querying = time.perf_counter() - begun
        if as_json:
            _print_json(hits_as_json(hits, searcher.index))
        else:
            console.print(hits_table(query, hits, searcher.index, encoding, querying))


@app.command()
def status(database: Database = None, app: App = None, as_json: AsJson = False) -> None:
    """Show what each index holds."""
    engine = connect(database)
    found = []
    for chosen in find_indexes(app).values():
        with explained(chosen), Session(engine) as session:
            found.append(read_status(session, chosen))
    if as_json:
        _print_json([asdict(one) for one in found])
    else:
        console.print(status_table(found))


@app.command("eval")
def evaluate_command(
    dataset: Annotated[
        Path, typer.Option("--dataset", help="A folder with corpus.jsonl.gz, queries.jsonl, qrels.tsv.")
    ],
    database: Database = None,
    encoder: Annotated[str, typer.Option("--encoder", help="The encoder, by name.")] = "minilm",
    config: Annotated[str, typer.Option("--config", help="The text search configuration.")] = "english",
    as_json: AsJson = False,
) -> None:
    """Measure each leg and the fusion on a judged collection, in a scratch schema that is dropped at the end."""
    engine = connect(database)
    with filling(Console(stderr=True), dataset.name, None) as advance:
        found = evaluate(engine, dataset, encoder=encoder, config=config, on_page=advance)
    if as_json:
        _print_json([asdict(one) for one in found])
    else:
        console.print(quality_table(dataset.name, found))


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
    sys.stdout.flush()  # here, where a closed pipe is noticed, and not when the interpreter ends


def main() -> None:
    """Run the command line: an error of the library or the server is one line on standard error and exit status 1."""
    try:
        app()
    except HybridSearchError as error:
        _fail(str(error))
    except DBAPIError as error:
        _fail(f"the server says: {error.orig}")


def _fail(message: str) -> NoReturn:
    line = " ".join(f"error: {message}".split())
    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
