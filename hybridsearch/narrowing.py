"""Phrases and exclusions of a query as a condition on the model, which acts in every leg. Pure: no I/O.

    narrowed(index, parse('"oak chair" -blue'))     # a condition like any other where=

The function `<index>_having` (sql/index/operators.sql) says which rows have a phrase or a word.
"""

from sqlalchemy import Boolean, ColumnElement, Text, and_, column, literal, not_, select, tuple_

from hybridsearch.lexical import configuration, routine
from hybridsearch.model import SearchIndex
from hybridsearch.syntax import Parsed


def narrowed(index: SearchIndex, parsed: Parsed | None) -> ColumnElement[bool] | None:
    """Return the condition that a document has every phrase and nothing that is excluded; None where there is none."""
    if parsed is None or not (parsed.phrases or parsed.excluded):
        return None
    wanted = [_has(index, phrase, phrase=True) for phrase in parsed.phrases]
    unwanted = [not_(_has(index, excluded.text, phrase=excluded.phrase)) for excluded in parsed.excluded]
    return and_(*wanted, *unwanted)


def _has(index: SearchIndex, content: str, *, phrase: bool) -> ColumnElement[bool]:
    keys = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    arguments = literal(content, Text), literal(phrase, Boolean), configuration(index)
    having = routine(index, "having", *arguments).table_valued(*keys, name="having_it")
    return tuple_(*index.keys).in_(select(*(having.c[name] for name in index.key_names)))
