"""Phrases and exclusions of a query as a condition on the model, which acts in every leg. Pure: no I/O.

    narrowed(index, parse('"oak chair" -blue'))     # a condition like any other where=

The function `<index>_having` (sql/index/operators.sql) says which rows have a word, or all words of a phrase; in these
a phrase is looked for as it is written, field by field. Of an engine that keeps no terms the rows are read for both.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
)

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
    if not phrase:
        return _is_among(index, literal(content, Text), literal(False, Boolean), configuration(index))
    pattern = select(func.hybridsearch.phrase_pattern(literal(content, Text), type_=Text)).scalar_subquery()
    texts = (cast(index.mapper.column_attrs[name].columns[0], Text) for name in index.fields)
    found = or_(*(func.coalesce(text.regexp_match(pattern, flags="i"), False) for text in texts))
    if index.engine != "sql":
        return found
    # In this order: reading a text costs a hundred times what looking into the documents' terms does.
    true, false = literal(True, Boolean), literal(False, Boolean)
    return case((_is_among(index, literal(content, Text), true, configuration(index), false), found), else_=False)


def _is_among(index: SearchIndex, *arguments: Any) -> ColumnElement[bool]:
    keys = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    having = routine(index, "having", *arguments).table_valued(*keys, name="having_it")
    return tuple_(*index.keys).in_(select(*(having.c[name] for name in index.key_names)))
