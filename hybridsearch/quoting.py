"""Names and values in the text of SQL, quoted by the driver, for the templates of `hybridsearch.definition`.

column_list(["id", "lang"], "m")            # m."id", m."lang"
wrapped("array[{}]", ["id", "lang"], "m")   # array[m."id"], array[m."lang"]
"""

from collections.abc import Iterable

from psycopg import sql


def literal(value: object) -> str:
    """Return a value as a literal."""
    return sql.Literal(value).as_string()


def each_column(names: Iterable[str], alias: str) -> list[str]:
    """Return columns of a table, one by one; of none where the alias is empty."""
    prefix = f"{alias}." if alias else ""
    return [prefix + sql.Identifier(name).as_string() for name in names]


def column_list(names: Iterable[str], alias: str) -> str:
    """Return columns of a table as a list."""
    return ", ".join(each_column(names, alias))


def wrapped(form: str, names: Iterable[str], alias: str) -> str:
    """Return columns of a table as a list, each in a form."""
    return ", ".join(form.format(column) for column in each_column(names, alias))


def numbered(name: str, types: Iterable[str]) -> list[tuple[str, str]]:
    """Return names of variables, one for each of some types, with these: ("best_1", "INTEGER")."""
    return [(f"{name}_{number}", type_) for number, type_ in enumerate(types, 1)]
