"""The columns of a model that an index reads: its fields with their weights, and the one that names a configuration."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, Dialect
from sqlalchemy.orm import InstrumentedAttribute, Mapper

from hybridsearch.errors import DeclarationError

_COLLATION = re.compile(r' COLLATE ".*"$')


def weights_of(mapper: Mapper[Any], fields: Mapping[str, float] | Iterable[str]) -> Mapping[str, float]:
    """Return the weight of each field; raise DeclarationError for what is no column, or no weight."""
    if isinstance(fields, str):
        raise DeclarationError(f"fields is the string {fields!r}: give a mapping or a sequence of names")
    weights = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, 1.0)
    if not weights:
        raise DeclarationError(f"{mapper.class_.__name__}: an index needs at least one field")
    for name, weight in weights.items():
        field_column(mapper, name)
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise DeclarationError(f"{mapper.class_.__name__}.{name}: weight {weight!r} is not a positive number")
    return {name: float(weight) for name, weight in weights.items()}


def field_column(mapper: Mapper[Any], name: str) -> Column[Any]:
    """Return the column behind an attribute; raise DeclarationError where there is none of the model's own table."""
    model = mapper.class_.__name__
    if name not in mapper.column_attrs:
        known = ", ".join(sorted(mapper.column_attrs.keys()))
        raise DeclarationError(f"{model} has no column attribute {name!r}; it has {known}")
    column = mapper.column_attrs[name].columns[0]
    if not isinstance(column, Column):
        raise DeclarationError(
            f"{model}.{name} is an expression: a field has to be a column, which a trigger can follow"
        )
    if column.table is not mapper.local_table:
        raise DeclarationError(
            f'{model}.{name} is a column of "{column.table.name}": an index covers one table, '
            f"declare it on the class of that table"
        )
    return column


def config_of(
    mapper: Mapper[Any], config: str | InstrumentedAttribute[Any], default: str
) -> tuple[Column[Any] | None, str]:
    """Return the column that names each row's configuration, if there is one, and the configuration of the others."""
    if isinstance(config, str):
        return None, config
    parent = config.parent if isinstance(config, InstrumentedAttribute) else None
    if not isinstance(parent, Mapper) or not mapper.isa(parent):
        raise DeclarationError(f"config is {config!r}: give a name, or a column of {mapper.class_.__name__}")
    return field_column(mapper, config.key), default


def type_of(column: Column[Any], dialect: Dialect) -> str:
    """Return the SQL type of a column, without the collation that an argument of a function cannot have."""
    return _COLLATION.sub("", column.type.compile(dialect))
