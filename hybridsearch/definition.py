"""What SQL has to know of an index, and the text of the routines that are made from it: functions, triggers.

    definition = Definition(name="article", table="article", keys={"id": "INTEGER"}, fields={"title": 2.0}, ...)
    script(definition, "public")        # create or replace function "public"."article_best"(…) …

The templates in `sql/index/` name what they need in double braces: FRAGMENTS says what there is. A function of its own
for each index has static SQL, whose plans PostgreSQL keeps, and people can call it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg import sql
from pydantic import BaseModel, ConfigDict

from hybridsearch import gathering
from hybridsearch.quoting import column_list, each_column, literal, numbered, wrapped
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
    config_column: str | None = None
    k1: float
    b: float
    idf: str = "lucene"
    epsilon: float = 0.25
    storage: Literal["halfvec", "vector", "bit"]
    dimensions: int
    sparse_dimensions: int | None = None
    engine: str = "sql"

    @property
    def dense(self) -> str:
        """The type of the column of dense vectors."""
        return f"{'vector' if self.storage == 'vector' else 'halfvec'}({self.dimensions})"

    @property
    def legs(self) -> tuple[str, ...]:
        """The legs that can be searched."""
        return ("dense", "lexical") if self.sparse_dimensions is None else ("dense", "sparse", "lexical")

    def approximate(self, chunk: str, vector: str) -> str:
        """Return the distance that the HNSW index orders chunks by."""
        if self.storage == "bit":
            return f"{chunk}.bits <~> binary_quantize({vector})::bit({self.dimensions})"
        return f"{chunk}.dense <=> {vector}"

    def sparse_distance(self, chunk: str, tokens: str) -> str:
        """Return the negated inner product of a chunk's term weights with those of a query."""
        return "null::float8" if self.sparse_dimensions is None else f"{chunk}.sparse <#> {tokens}"

    @property
    def qualified_name(self) -> str:
        """The index's name in the database: with its schema where it is declared with one."""
        return qualified(self.name, self.namespace)


def qualified(name: str, namespace: str | None) -> str:
    """Return a name with its schema."""
    return name if namespace is None else f"{namespace}.{name}"


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
        return " and ".join(f"{column_list([key], row)} = {column_list([name], companion)}" for key, name in pairs)

    def same_keys(self, aliases: str) -> str:
        """Return the condition that rows of two companions belong to one document."""
        first, second = (alias.strip() for alias in aliases.split(","))
        return " and ".join(
            f"{column_list([name], first)} = {column_list([name], second)}" for name in self.companion_keys
        )

    def words(self, alias: str) -> str:
        """Return a subquery with the words of a row: `term`, and `frequency`, in which each field has its weight."""
        return (
            f"(select word.* from {self.counted(alias)} as c, unnest(c.words, c.frequencies) as word(term, frequency))"
        )

    def counted(self, alias: str) -> str:
        """Return the words of a row as one value, of the type hybridsearch.counted."""
        weights = ", ".join(map(literal, self.definition.fields.values()))
        texts = ", ".join(f"hybridsearch.as_text({column_list([name], alias)})" for name in self.definition.fields)
        return f"hybridsearch.counted({self.row_config(alias)}, array[{weights}]::float8[], array[{texts}])"

    def changed_keys(self, alias: str) -> str:
        """Return the keys that stand in the change table, as a FROM element; a key may come several times."""
        names = column_list(self.companion_keys, "")
        arrays = column_list(self.companion_keys, "change")
        return f"(select k.* from {self.part('change')} as change, unnest({arrays}) as k({names})) as {alias}"

    def config(self) -> str:
        """Return the configuration of queries, and of rows that name none."""
        return f"hybridsearch.configuration({literal(self.definition.config)})"

    def row_config(self, alias: str) -> str:
        """Return the configuration of a row. As a subquery, that of the index is looked up once a statement."""
        own = f"(select {self.config()})"
        if self.definition.config_column is None:
            return own
        named = f"hybridsearch.known_configuration({column_list([self.definition.config_column], alias)}::text)"
        return f"coalesce({named}, {own})"

    def texts(self, alias: str) -> str:
        """Return what a row's words are made of, as texts: its fields, and the name of its configuration."""
        columns = [*self.definition.fields, *filter(None, [self.definition.config_column])]
        return ", ".join(f"{column_list([name], alias)}::text" for name in columns)

    def row_hash(self, alias: str) -> str:
        """Return the hash of a row's texts, and of `recipe`."""
        return f"sha256(convert_to(recipe || json_build_array({self.texts(alias)})::text, 'UTF8'))"

    def matching(self, arguments: str) -> str:
        """Return the condition that a field of a row matches a regular expression, in any case."""
        alias, pattern = arguments.split(",")
        columns = (column_list([name], alias) for name in self.definition.fields)
        return "(" + " or ".join(f"coalesce({column}::text ~* {pattern}, false)" for column in columns) + ")"

    def beginning(self, prefixes: str) -> str:
        """Return the terms that begin with one of an array of prefixes: none where the engine keeps no terms."""
        known = self.definition.engine == "sql"
        return f"{self.part('beginning')}({prefixes})" if known else "unnest('{}'::text[])"

    def differs(self) -> str:
        """Return the condition that an update changes what is indexed of a row, and leaves its key."""
        old, new = (column_list(self.definition.keys, alias) for alias in ("old", "new"))
        texts = f"({self.texts('old')}) is distinct from ({self.texts('new')})"
        return f"{texts} and ({old}) is not distinct from ({new})"

    def best_sparse(self, arguments: str) -> str:
        """Return a call of the search by the encoder's term weights, which an encoder without them has not."""
        if self.definition.sparse_dimensions is None:
            keys = column_list(self.companion_keys, "")
            return f"(select {keys}, null::float8 as distance from {self.part('chunk')} where false)"
        return f"{self.part('best_sparse')}({arguments})"

    def key_definitions(self) -> str:
        """Return the key columns of a companion with their types."""
        pairs = zip(self.companion_keys, self.definition.keys.values(), strict=True)
        return ", ".join(f"{column_list([name], '')} {type_}" for name, type_ in pairs)


def _key_value(place: Place, alias: str) -> str:
    columns = column_list(place.companion_keys, alias)
    return columns if len(place.companion_keys) == 1 else f"row({columns})"


def _key_variables(place: Place, name: str) -> list[tuple[str, str]]:
    return numbered(name, place.definition.keys.values())


def _companion(name: str) -> Callable[[Place, str], str]:
    return lambda place, _: place.part(name)


_COMPANIONS = (
    *("document", "chunk", "change", "queue"),
    *("term", "posting", "pending", "statistics", "word", "word_bm25"),
    *("weight", "piece", "unweighed"),
)

# Tables that stand only while `build` runs.
_SCRATCH = ("build_numbers", "build_rows", "build_words", "build_terms", "build_parts", "build_lists")

NOTIFIES = "coalesce(pg_catalog.current_setting('hybridsearch.notify', true), '') operator(pg_catalog.<>) 'off'"
"""The condition that workers are woken by NOTIFY: not so where the setting says that they look by themselves."""

# What a template may name as {{fragment}} or {{fragment:argument}}.
FRAGMENTS: dict[str, Callable[[Place, str], str]] = {
    # 'article', or 'shop.article': the index's qualified name, as a literal
    "name": lambda p, _: literal(p.definition.qualified_name),
    # the model's table, and the companions
    "table": lambda p, _: p.named(p.definition.table),
    **{name: _companion(name) for name in (*_COMPANIONS, *_SCRATCH)},
    # {{fn:best}}: the function "public"."article_best"; {{trigger:changed}}: a trigger's name, which has no schema
    "fn": lambda p, name: p.part(name),
    "trigger": lambda p, name: column_list([f"{p.definition.name}_{name}"], ""),
    # {{keys:m}}: m."id"; {{companion_keys:d}}: d."article_id"; {{same_row:m,d}}: m."id" = d."article_id"
    "keys": lambda p, alias: column_list(p.definition.keys, alias),
    "companion_keys": lambda p, alias: column_list(p.companion_keys, alias),
    "first_key": lambda p, alias: column_list(p.companion_keys[:1], alias),
    "same_row": Place.same_row,
    # {{key_arrays:m}}: pg_catalog.array_agg(m."id"), {{companion_key_arrays:d}}: array_agg(d."article_id"),
    # {{key_array:new}}: array[new."id"]: as the columns of {{change}}
    "key_arrays": lambda p, alias: wrapped("pg_catalog.array_agg({})", p.definition.keys, alias),
    "companion_key_arrays": lambda p, alias: wrapped("array_agg({})", p.companion_keys, alias),
    # {{key_variables:best}}: best_1 INTEGER[]; {{key_arguments:best}}: best_1 INTEGER[], {{key_names:best}}: best_1
    "key_arguments": lambda p, name: ", ".join(f"{one} {type_}[]" for one, type_ in _key_variables(p, name)),
    "key_variables": lambda p, name: " ".join(f"{one} {type_}[];" for one, type_ in _key_variables(p, name)),
    "key_names": lambda p, name: ", ".join(one for one, _ in _key_variables(p, name)),
    "key_array": lambda p, alias: wrapped("array[{}]", p.definition.keys, alias),
    # {{each_key:array_agg(t.?)}}: array_agg(t."article_id"), of each key column of the companions
    "each_key": lambda p, form: ", ".join(form.replace("?", name) for name in each_column(p.companion_keys, "")),
    # whether an update of `old` to `new` changes what the index is of, and not the key
    "differs": lambda p, _: p.differs(),
    # {{gather:new}}, {{none_gathered}}, {{take_gathered:change}}: see `hybridsearch.gathering`
    "gather": lambda p, alias: gathering.add(p.part("change"), each_column(p.definition.keys, alias)),
    "none_gathered": lambda p, _: gathering.none_are_held(p.part("change")),
    "take_gathered": lambda p, alias: gathering.take(p.part("change"), each_column(p.companion_keys, alias)),
    # whether a change may be notified: a transaction that is prepared may not have done so, see docs/freshness.md
    "notifies": lambda p, _: NOTIFIES,
    # {{changed_keys:c}}: the keys in {{change}}, of rows whose words are not indexed yet, a row each; c."article_id"
    "changed_keys": Place.changed_keys,
    # "article_id" INTEGER: as columns or arguments
    "key_definitions": lambda p, _: p.key_definitions(),
    # {{fields:m}}: m."title", m."body"; {{hash:m}}: of them, as hybridsearch.content has it
    "fields": lambda p, alias: column_list(p.definition.fields, alias),
    "hash": Place.row_hash,
    "field_weights": lambda p, _: ", ".join(map(literal, p.definition.fields.values())),
    # {{words:m}}: the row's words in all fields, each with how much it counts, as a subquery (term, frequency)
    "words": Place.words,
    "counted": Place.counted,  # the same as one value: words[], frequencies[], length
    # {{matching:m,pattern}}: whether a field of the row matches; {{beginning:prefixes}}: terms that begin so
    "matching": Place.matching,
    "beginning": Place.beginning,
    # the configuration of queries; {{row_config:m}}: that of a row
    "config": lambda p, _: p.config(),
    "row_config": Place.row_config,
    "k1": lambda p, _: literal(p.definition.k1),
    "b": lambda p, _: literal(p.definition.b),
    "idf": lambda p, _: literal(p.definition.idf),
    "epsilon": lambda p, _: literal(p.definition.epsilon),
    # the types of the vectors: halfvec(384), sparsevec(250002)
    "dense": lambda p, _: p.definition.dense,
    "dimensions": lambda p, _: str(p.definition.dimensions),
    "sparse": lambda p, _: f"sparsevec({p.definition.sparse_dimensions or 1})",
    "sparse_dimensions": lambda p, _: str(p.definition.sparse_dimensions or 1),
    # array['dense', 'lexical']
    "legs": lambda p, _: f"array[{', '.join(map(literal, p.definition.legs))}]",
    # {{same_keys:d,c}}: d."article_id" = c."article_id"
    "same_keys": Place.same_keys,
    # {{key_value:c}}: c."article_id", or a row of several
    "key_value": lambda p, alias: _key_value(p, alias),
    # {{approximate:c,near}}: what the HNSW index orders chunks c by; {{scanned:depth}}: how many of them to look at
    "approximate": lambda p, arguments: p.definition.approximate(*arguments.split(",")),
    "scanned": lambda p, depth: f"least(1000, 4 * {depth})" if p.definition.storage == "bit" else depth,
    # {{sparse_distance:c,tokens}}: null where the index has no sparse leg
    "sparse_distance": lambda p, arguments: p.definition.sparse_distance(*arguments.split(",")),
    # {{best_sparse:tokens,depth}}: the function, or no rows, as a FROM element
    "best_sparse": lambda p, arguments: p.best_sparse(arguments),
    # {{literal:table}}: '"public"."article"', a fragment as a literal, for statements that are put together later
    "literal": lambda p, fragment: literal(FRAGMENTS[fragment.partition(":")[0]](p, fragment.partition(":")[2])),
}
_ENGINE = re.compile(r"-- engine: ([\w, ]+)\n")
_SPARSE = "-- needs: sparse\n"
_PLACEHOLDER = re.compile(r"\{\{(\w+)(?::([^{}]*))?\}\}")
_FUNCTION = re.compile(r"^create or replace function \{\{fn:(\w+)\}\}", re.MULTILINE)


def templates(definition: Definition) -> Iterator[str]:
    """Yield the texts of the templates, in their order; what begins with `-- engine: …` for those engines only, what
    begins with `-- needs: sparse` for an index with a sparse leg.
    """
    for path in sorted(Path(FUNCTIONS, "index").glob("*.sql")):
        template = path.read_text(encoding="utf-8")
        engines = _ENGINE.match(template)
        if template.startswith(_SPARSE) and definition.sparse_dimensions is None:
            continue
        if engines is None or definition.engine in engines[1].split(", "):
            yield template


def script(definition: Definition, namespace: str) -> str:
    """Return the SQL that makes the routines of an index whose table stands in that schema."""
    place = Place(definition, namespace)
    return "\n".join(
        _PLACEHOLDER.sub(lambda found: FRAGMENTS[found[1]](place, found[2] or ""), template)
        for template in templates(definition)
    )


def functions(definition: Definition) -> list[str]:
    """Return the names of the functions that the templates make for an index."""
    return [f"{definition.name}_{part}" for template in templates(definition) for part in _FUNCTION.findall(template)]
