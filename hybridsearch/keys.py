"""Name one document: by an object of the model, by its key, or by what somebody typed.

identity(index, article), identity(index, 17), identity(index, ("shop", 17))       # a tuple of the key's columns
typed(index, "shop,17")                                                         # the same, from a command line
"""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Integer, SmallInteger, String, Uuid, and_, literal

from hybridsearch.errors import QueryError
from hybridsearch.model import SearchIndex


def identity(index: SearchIndex, document: Any) -> tuple[Any, ...]:
    """Return the primary key of a document; raise QueryError for what cannot be one."""
    if isinstance(document, index.model):
        key = tuple(getattr(document, index.mapper.get_property_by_column(column).key) for column in index.keys)
        if None in key:
            raise QueryError(f"this {index.model.__name__} has no key yet: flush the session first")
        return key
    key = document if isinstance(document, tuple) else (document,)
    if len(key) != len(index.keys):
        raise QueryError(f"document {document!r} has {len(key)} key columns: give {_names(index)}")
    return tuple(_checked(column, value) for column, value in zip(index.keys, key, strict=True))


def typed(index: SearchIndex, text: str) -> tuple[Any, ...]:
    """Return the key in a text: its columns in their order, joined by commas; raise QueryError for none."""
    parts = text.split(",", len(index.keys) - 1)
    if len(parts) != len(index.keys):
        raise QueryError(f"document {text!r} has {len(parts)} key columns: give {_names(index)}, joined by commas")
    return tuple(_parsed(column, part.strip()) for column, part in zip(index.keys, parts, strict=True))


def as_key(index: SearchIndex, texts: Sequence[str]) -> tuple[str, ...]:
    """Return a key as PostgreSQL writes it; raise ValueError for what is none.

    What is no number, UUID or text is left to the server, which knows how it writes it.
    """
    return tuple(_as_written(column, text) for column, text in zip(index.keys, texts, strict=True))


def _as_written(column: Column[Any], text: str) -> str:
    if isinstance(column.type, Uuid):
        return str(uuid.UUID(text))
    plain = isinstance(column.type, Integer | String) and column.type.python_type in (int, str)
    return str(_parsed(column, text)) if plain else text


def is_key(columns: Sequence[Any], key: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that some columns hold a key."""
    return and_(*(column == literal(value, column.type) for column, value in zip(columns, key, strict=True)))


def _names(index: SearchIndex) -> str:
    return ", ".join(column.name for column in index.keys)


def _parsed(column: Column[Any], text: str) -> Any:
    kind = column.type.python_type
    try:
        value = kind(text) if kind in (int, uuid.UUID, float) else text
    except ValueError as error:
        raise QueryError(f"document key {text!r}: {column.name} is a {kind.__name__}") from error
    return _checked(column, value)


_BITS = {SmallInteger: 15, Integer: 31, BigInteger: 63}


def _checked(column: Column[Any], value: Any) -> Any:
    """The value, if PostgreSQL can compare it with the column."""
    kind = column.type.python_type
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise QueryError(f"document key {value!r}: {column.name} is a {kind.__name__}")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= character <= "\udfff" for character in value)):
        raise QueryError(f"document key {value!r} holds what no text in PostgreSQL can")
    bits = next((_BITS[type_] for type_ in (SmallInteger, BigInteger, Integer) if isinstance(column.type, type_)), None)
    if bits is not None and not -(2**bits) <= value < 2**bits:
        raise QueryError(f"document key {value!r} is out of the range of {column.name}")
    return value
