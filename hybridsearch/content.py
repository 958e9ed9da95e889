"""What of a row is indexed: its texts, its pieces, and a hash that says whether either has changed.

content = content_of(articles, ["Red chair", None])     # {"title": "Red chair"}
chunks_of(articles, (17,), content)                     # rows of the chunk table, without their vectors
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, String, Text, cast, column, func, literal
from sqlalchemy.dialects.postgresql import ARRAY

from hybridsearch.chunking import split
from hybridsearch.encoders.text import clean
from hybridsearch.model import SearchIndex
from hybridsearch.template import as_text, render

CHUNK_OVERLAP = 32  # tokens

Key = tuple[Any, ...]
Content = Mapping[str, str]


def field_columns(index: SearchIndex) -> list[ColumnElement[Any]]:
    """Return the columns of the fields, in their order."""
    return [index.mapper.column_attrs[name].columns[0] for name in index.fields]


def content_of(index: SearchIndex, values: Sequence[Any]) -> dict[str, str]:
    """Return the fields' texts by name, of values in the order of the fields; a null is left out."""
    named = zip(index.fields, values, strict=True)
    return {name: clean(as_text(value)) for name, value in named if value is not None}


def recipe(index: SearchIndex) -> str:
    """Return how rows are indexed, as a text that is part of their hash."""
    return json.dumps([dict(index.fields), index.title, index.template, index.config, CHUNK_OVERLAP])


def content_hash(index: SearchIndex) -> ColumnElement[bytes]:
    """Return an expression over a row: 32 bytes that change whenever its texts, or how they are indexed, change."""
    # The name of the row's configuration is the last of them, if it has one, as in the templates' {{hash:m}}.
    columns = [*field_columns(index), *([] if index.config_column is None else [index.config_column])]
    texts = func.json_build_array(*(cast(column_, Text) for column_ in columns))
    return func.sha256(func.convert_to(literal(recipe(index), Text).concat(cast(texts, Text)), "UTF8"))


def chunks_of(index: SearchIndex, key: Key, content: Content) -> list[dict[str, Any]]:
    """Cut a document into chunks; return rows of the chunk table without their vectors."""
    encoder = index.encoder
    title = content.get(index.title, "") if index.title else ""
    overlap = min(CHUNK_OVERLAP, encoder.max_tokens // 4)
    passages = split(
        body_of(index, content), encoder.token_spans, max_tokens=encoder.max_tokens, overlap=overlap, prefix=title
    )
    names = dict(zip(index.key_names, key, strict=True))
    return [
        {**names, "ordinal": passage.ordinal, "start": passage.start, "stop": passage.end, "text": passage.text}
        for passage in passages
    ]


def body_of(index: SearchIndex, content: Content) -> str:
    """Return the text that is cut into chunks, to which their offsets refer: by the template, or field after field."""
    if index.template is not None:
        return render(index.template, dict.fromkeys(index.fields) | dict(content))
    return "\n\n".join(text for name, text in content.items() if name != index.title)


def keys_as_rows(index: SearchIndex, keys: Sequence[Key], name: str = "given") -> FromClause:
    """Return keys as a FROM element with the key columns of the companions: any number of them is one statement."""
    columns = [column(key_name, key.type) for key_name, key in zip(index.key_names, index.keys, strict=True)]
    return func.unnest(*key_arrays(index, keys)).table_valued(*columns).render_derived(name=name)


def key_arrays(index: SearchIndex, keys: Sequence[Key]) -> list[ColumnElement[Any]]:
    """Return keys as an array a key column."""
    arrays: list[ColumnElement[Any]] = []
    for place, key in enumerate(index.keys):
        type_ = ARRAY(_comparable(key))
        arrays.append(cast(literal([values[place] for values in keys], type_), type_))
    return arrays


def _comparable(key: Column[Any]) -> Any:
    """The type of a key column; a cast takes no collation."""
    if isinstance(key.type, String) and key.type.collation is not None:
        plain = key.type.copy()
        plain.collation = None
        return plain
    return key.type
