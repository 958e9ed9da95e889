"""SQL that gathers the keys of an update row by row, to be written together: in settings of the transaction.

    add('"article_change"', ['new."id"'])       # set_config('hybridsearch.changed_…_0', concat(…, ',', …), …)
    take('"article_change"', ['change."id"'])   # change."id" := concat('{', …, '}'); …

`table` is where they will be written. A setting is the one thing that a trigger can keep from row to row without a
table, and that a savepoint takes back. Each key column has one: `,1,2,"a b"`, elements as PostgreSQL writes them.
"""

import hashlib
from collections.abc import Sequence

from psycopg import sql


def add(table: str, keys: Sequence[str]) -> str:
    """Return calls, one for each key column, that add a key, given as expressions; they return what was gathered."""
    return ", ".join(
        # The braces around the one element of the array go; those that belong to it stand in quotes.
        f"pg_catalog.set_config({name}, pg_catalog.concat({_held(name)}, ',', "
        f"pg_catalog.btrim(array[{key}]::pg_catalog.text, '{{}}')), true)"
        for name, key in zip(_settings(table, len(keys)), keys, strict=True)
    )


def take(table: str, arrays: Sequence[str]) -> str:
    """Return PL/pgSQL that assigns the keys to arrays, one for each key column, and leaves none."""
    return "\n    ".join(
        f"{array} := pg_catalog.concat('{{', pg_catalog.substr({_held(name)}, 2), '}}'); "
        f"perform pg_catalog.set_config({name}, '', true);"
        for name, array in zip(_settings(table, len(arrays)), arrays, strict=True)
    )


def none_are_held(table: str) -> str:
    """Return the condition that no keys are gathered."""
    (name,) = _settings(table, 1)
    return f"coalesce({_held(name)}, '') operator(pg_catalog.=) ''"


def _held(setting: str) -> str:
    return f"pg_catalog.current_setting({setting}, true)"


def _settings(table: str, columns: int) -> list[str]:
    """Names, as literals. They have to be plain, which that of a table need not be."""
    plain = hashlib.sha256(table.encode()).hexdigest()[:16]
    return [sql.Literal(f"hybridsearch.changed_{plain}_{place}").as_string() for place in range(columns)]
