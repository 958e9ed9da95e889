"""What SQL has to know of an index, and the text of the routines that are made from it: functions, triggers.

    definition = Definition(name="article", table="article", keys={"id": "INTEGER"}, fields={"title": 2.0}, ...)
    script(definition, "public")        # create or replace function "public"."article_best"(…) …

The templates in `sql/index/` name what they need in double braces: FRAGMENTS says what there is. A function of its own
for each index has static SQL, whose plans PostgreSQL keeps, and people can call it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict

from hybridsearch.resources import FUNCTIONS


class Definition(BaseModel):
    """A search index as SQL sees it. `keys` maps key columns to SQL types, `fields` columns to weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    namespace: str | None = None
    table: str
    keys: dict[str, str]
    fields: dict[str, float]
    config: str
    k1: float
    b: float
    storage: Literal["halfvec", "vector", "bit"]
    dimensions: int
    sparse_dimensions: int | None = None

    @property
    def dense(self) -> str:
        """The type of the column of dense vectors."""
        return f"{'vector' if self.storage == 'vector' else 'halfvec'}({self.dimensions})"

    @property
    def qualified_name(self) -> str:
        """The index's name in the database: with its schema where it is declared with one."""
        return self.name if self.namespace is None else f"{self.namespace}.{self.name}"


@dataclass(frozen=True)
class Place:
    """A definition, and the schema in which its table was found: names without one would follow any search_path."""

    definition: Definition
    namespace: str

    def named(self, name: str) -> str:
        """Return a name in the schema of the table, quoted."""
        return sql.Identifier(self.namespace, name).as_string()

    def part(self, name: str) -> str:
        """Return the name of something that belongs to the index, quoted: "public"."article_best"."""
        return self.named(f"{self.definition.name}_{name}")

    @property
    def companion_keys(self) -> list[str]:
        """What the key columns are called in the companions."""
        return [f"{self.definition.table}_{key}" for key in self.definition.keys]

    def same_row(self, aliases: str) -> str:
        """Return the condition that a row of the model's table and one of a companion belong together."""
        row, companion = (alias.strip() for alias in aliases.split(","))
        pairs = zip(self.definition.keys, self.companion_keys, strict=True)
        return " and ".join(f"{_columns([key], row)} = {_columns([name], companion)}" for key, name in pairs)

    def key_definitions(self) -> str:
        """Return the key columns of a companion with their types."""
        pairs = zip(self.companion_keys, self.definition.keys.values(), strict=True)
        return ", ".join(f"{_columns([name], '')} {type_}" for name, type_ in pairs)


def _columns(names: Iterable[str], alias: str) -> str:
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + sql.Identifier(name).as_string() for name in names)


def _literal(value: object) -> str:
    return sql.Literal(value).as_string()


def _companion(name: str) -> Callable[[Place, str], str]:
    return lambda place, _: place.part(name)


# What a template may name as {{fragment}} or {{fragment:argument}}.
FRAGMENTS: dict[str, Callable[[Place, str], str]] = {
    # 'article', or 'shop.article': the index's qualified name, as a literal
    "name": lambda p, _: _literal(p.definition.qualified_name),
    # the model's table, and the companions
    "table": lambda p, _: p.named(p.definition.table),
    **{name: _companion(name) for name in ("document", "chunk", "term", "posting", "pending", "statistics", "queue")},
    # {{fn:best}}: the function "public"."article_best"; {{trigger:changed}}: a trigger's name, which has no schema
    "fn": lambda p, name: p.part(name),
    "trigger": lambda p, name: _columns([f"{p.definition.name}_{name}"], ""),
    # {{keys:m}}: m."id"; {{companion_keys:d}}: d."article_id"; {{same_row:m,d}}: m."id" = d."article_id"
    "keys": lambda p, alias: _columns(p.definition.keys, alias),
    "companion_keys": lambda p, alias: _columns(p.companion_keys, alias),
    "same_row": Place.same_row,
    # "article_id" INTEGER: as columns or arguments
    "key_definitions": lambda p, _: p.key_definitions(),
    # {{fields:m}}: m."title", m."body"; {{field_texts:m}}: as texts, in the order of {{field_weights}}: 2.0, 1.0
    "fields": lambda p, alias: _columns(p.definition.fields, alias),
    "field_texts": lambda p, alias: ", ".join(f"{_columns([name], alias)}::text" for name in p.definition.fields),
    "field_weights": lambda p, _: ", ".join(map(_literal, p.definition.fields.values())),
    "config": lambda p, _: f"{_literal(p.definition.config)}::regconfig",
    "k1": lambda p, _: _literal(p.definition.k1),
    "b": lambda p, _: _literal(p.definition.b),
    # the types of the vectors: halfvec(384), sparsevec(250002)
    "dense": lambda p, _: p.definition.dense,
    "dimensions": lambda p, _: str(p.definition.dimensions),
    "sparse": lambda p, _: f"sparsevec({p.definition.sparse_dimensions or 1})",
}
_PLACEHOLDER = re.compile(r"\{\{(\w+)(?::([^{}]*))?\}\}")
_FUNCTION = re.compile(r"^create or replace function \{\{fn:(\w+)\}\}", re.MULTILINE)


def templates() -> Iterator[str]:
    """Yield the texts of the templates, in their order."""
    for path in sorted(Path(FUNCTIONS, "index").glob("*.sql")):
        yield path.read_text(encoding="utf-8")


def script(definition: Definition, namespace: str) -> str:
    """Return the SQL that makes the routines of an index whose table stands in that schema."""
    place = Place(definition, namespace)
    return "\n".join(
        _PLACEHOLDER.sub(lambda found: FRAGMENTS[found[1]](place, found[2] or ""), template) for template in templates()
    )


def functions(definition: Definition) -> list[str]:
    """Return the names of the functions that the templates make for an index."""
    return [f"{definition.name}_{part}" for template in templates() for part in _FUNCTION.findall(template)]
