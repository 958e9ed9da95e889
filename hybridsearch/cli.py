"""The command line: parses, calls one function of the library, prints.

hybridsearch search "red chair" --app shop.models
"""

import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

from hybridsearch.errors import HybridSearchError, MissingDependency

try:
    import typer
    from rich.console import Console
except ImportError as error:
    raise SystemExit("error: " + str(MissingDependency("the command line", "cli"))) from error

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch.application import choose, connected, find_indexes
from hybridsearch.bm25 import EngineName
from hybridsearch.cli_base import App, AsJson, Database, IndexName, console, print_json
from hybridsearch.cli_upkeep import upkeep
from hybridsearch.database import explained
from hybridsearch.demo import demo as run_demo
from hybridsearch.display import filling, hits_as_json, hits_table, quality_table
from hybridsearch.display_explain import explanations_table, why_not_table
from hybridsearch.encoders.onnx_export import export_onnx
from hybridsearch.evaluation import evaluate
from hybridsearch.keys import typed
from hybridsearch.observation import SearchRecord
from hybridsearch.schema import migrate as apply_migrations
from hybridsearch.searcher import HybridSearch
from hybridsearch.segmentation import jieba_words

app = typer.Typer(
    help="Hybrid search inside the PostgreSQL you already have.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
encoders = typer.Typer(help="Encoders: export a model.", no_args_is_help=True)
app.add_typer(encoders, name="encoder")
app.add_typer(upkeep)
logging.getLogger("hybridsearch.asking").addHandler(logging.NullHandler())  # the commands say it themselves
USAGE_ERROR: Any = typer.BadParameter.__base__  # its home differs between releases of typer


@app.command()
def demo(database: Database = None) -> None:
    """Play a user's story on 2,000 products: migrate, index, search, beside plain full-text search."""
    run_demo(console, database)


@app.command()
def migrate(database: Database = None) -> None:
    """Bring the schema "hybridsearch" of a database to this version. Safe to repeat, and to run twice at once."""
    with connected(database) as engine, explained(), engine.begin() as connection:
        ran = apply_migrations(connection)
    console.print(f"applied {', '.join(ran)}" if ran else "nothing to do: the schema is up to date")


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
    records: list[SearchRecord] = []
    searcher = HybridSearch(choose(find_indexes(app), index), on_search=records.append)
    with connected(database) as engine, Session(engine) as session:
        hits = searcher.search(session, query, limit=limit)
        if as_json:
            print_json(hits_as_json(hits, searcher.index))
        else:
            console.print(hits_table(query, hits, searcher.index, records[0]))
    _say(hits.degraded, hits.suggestion and f"did you mean: {hits.suggestion}")


@app.command()
def explain(
    query: Annotated[str, typer.Argument(help="What to search for.")],
    database: Database = None,
    app: App = None,
    index: IndexName = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many documents, 1 to 1,000.")] = 3,
    document: Annotated[
        str | None, typer.Option("--document", help="A key: say what became of this document instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the scores of the hits are made of, or why a document is not among them."""
    searcher = HybridSearch(choose(find_indexes(app), index))
    key = None if document is None else typed(searcher.index, document)
    with connected(database) as engine, Session(engine) as session:
        if key is not None:
            missed = searcher.why_not(session, query, key, limit=limit)
            print_json(missed.to_dict()) if as_json else console.print(why_not_table(query, missed))
            _say(missed.degraded)
            return
        found = searcher.explain(session, query, limit=limit)
        if as_json:
            print_json([one.to_dict() for one in found])
        else:
            console.print(explanations_table(query, found, searcher.index))
    _say(found.degraded)


@encoders.command()
def export(
    model: Annotated[str, typer.Argument(help="A folder with a BGE-M3 checkpoint, or its name on the hub.")],
    folder: Annotated[Path, typer.Argument(help="Where to write it: empty, or not there yet.")],
    revision: Annotated[str | None, typer.Option("--revision", help="The commit of the hub's model.")] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Run the layers in int8.")] = False,
    reduce_range: Annotated[bool, typer.Option("--reduce-range", help="With --int8, for x86 without VNNI.")] = False,
) -> None:
    """Write BGE-M3 as ONNX, its three heads in the graph, to run without torch."""
    written = export_onnx(model, folder, revision=revision, int8=int8, reduce_range=reduce_range)
    console.print(f"{folder}: {written.dimensions} dimensions, {written.precision}; load_encoder(..., backend='onnx')")


@app.command("eval")
def evaluate_command(
    dataset: Annotated[
        Path, typer.Option("--dataset", help="A folder with corpus.jsonl.gz, queries.jsonl, qrels.tsv.")
    ],
    database: Database = None,
    encoder: Annotated[str, typer.Option("--encoder", help="The encoder, by name.")] = "minilm",
    config: Annotated[str, typer.Option("--config", help="The text search configuration.")] = "english",
    lexical: Annotated[str, typer.Option("--engine", help="Who ranks by words: sql, memory or pg_textsearch.")] = "sql",
    jieba: Annotated[bool, typer.Option("--jieba", help="Cut Chinese by jieba; with --engine memory.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure each leg and the fusion on a judged collection, in a scratch schema that is dropped at the end."""
    with connected(database) as engine, filling(Console(stderr=True), dataset.name, None) as advance:
        found = evaluate(
            engine,
            dataset,
            encoder=encoder,
            config=config,
            lexical=cast("EngineName", lexical),
            segmenter=jieba_words if jieba else None,
            on_page=advance,
        )
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        console.print(quality_table(dataset.name, found))


def main() -> None:
    """Run the command line: an error, of the command too, is one line on standard error and exit status 1."""
    try:
        sys.exit(app(standalone_mode=False))
    except USAGE_ERROR as error:
        if message := error.format_message():
            _fail(message)
        sys.exit(2)  # without arguments: the help was printed
    except typer.Abort:
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for what the interpreter flushes at its end
        sys.exit(1)
    except HybridSearchError as error:
        _fail(str(error))
    except DBAPIError as error:
        _fail("the server says: " + str(error.orig).partition("\n")[0])


def _say(*lines: str | None) -> None:
    """Write what is beside a result, if there is anything, to standard error: the result stays what it is."""
    for line in filter(None, lines):
        Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)


def _fail(message: str) -> NoReturn:
    line = " ".join(f"error: {message}".split())
    Console(stderr=True, soft_wrap=True).print(line, markup=False, highlight=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
