"""What the commands share: options, the console, JSON."""

import json
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console

from hybridsearch.application import choose, find_indexes
from hybridsearch.model import SearchIndex

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


def chosen_indexes(app: str | None, name: str | None) -> Iterable[SearchIndex]:
    """Return the named index, or all of the application's."""
    indexes = find_indexes(app)
    return [choose(indexes, name)] if name else indexes.values()


def print_json(value: Any) -> None:
    """Write a value to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")
    sys.stdout.flush()  # here, where a closed pipe is noticed, and not when the interpreter ends
