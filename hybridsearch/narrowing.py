"""Phrases and exclusions of a query as a condition on the model, which acts in every leg. Pure: no I/O.

    narrowed(index, parse('"oak chair" -blue'))     # a condition like any other where=

A phrase is looked for in the rows as they are, field by field, of those documents that have all its words; an excluded
word is looked up among the documents' terms. Of an engine that keeps no terms the rows are read for both.
"""

from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, and_, case, cast, exists, func, literal, not_, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from hybridsearch.lexical import changes, configuration, row_configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.syntax import Excluded, Parsed, is_plain_word, pattern, surely_indexed


def narrowed(index: SearchIndex, parsed: Parsed | None) -> ColumnElement[bool] | None:
    """Return the condition that a document has every phrase and nothing that is excluded; None where there is none."""
    if parsed is None or not (parsed.phrases or parsed.excluded):
        return None
    wanted = [_has_phrase(index, phrase) for phrase in parsed.phrases]
    unwanted = [not_(_has(index, excluded)) for excluded in parsed.excluded]
    return and_(*wanted, *unwanted)


def _has(index: SearchIndex, excluded: Excluded) -> ColumnElement[bool]:
    # A part number, or a word of a script without spaces, has several terms, which could stand anywhere.
    if excluded.phrase or not is_plain_word(excluded.text):
        return _has_phrase(index, excluded.text)
    return _has_word(index, excluded.text)


def _has_phrase(index: SearchIndex, phrase: str) -> ColumnElement[bool]:
    expression = literal(pattern(phrase), Text)
    found = or_(*(func.coalesce(text.regexp_match(expression, flags="i"), False) for text in _texts(index)))
    words = surely_indexed(phrase)
    if not words or index.engine != "sql":
        return found
    # In this order: reading a text costs a hundred times what looking into the documents' terms does.
    return case((_is_among(index, words), found), else_=False)


def _has_word(index: SearchIndex, word: str) -> ColumnElement[bool]:
    if index.engine == "sql":
        return and_(_term_ids(index, word).is_not(None), _is_among(index, word))
    asked = terms_of(configuration(index), literal(word, Text)).alias("asked")
    own = [terms_of(row_configuration(index), text).alias(f"own_{n}") for n, text in enumerate(_texts(index))]
    return or_(
        *(exists(select(literal(1)).select_from(one).where(one.c.term.in_(select(asked.c.term)))) for one in own)
    )


def _texts(index: SearchIndex) -> list[ColumnElement[str]]:
    return [cast(index.mapper.column_attrs[name].columns[0], Text) for name in index.fields]


def _is_among(index: SearchIndex, words: str) -> ColumnElement[bool]:
    """Whether the row is one of the documents that have all terms of the words; true where the words have none.

    Of rows that are not indexed yet it is the terms that they have now.
    """
    documents, changed, stale = index.documents.alias("having"), changes(index), changes(index)
    keys, live_keys, stale_keys = ([table.c[name] for name in index.key_names] for table in (documents, changed, stale))
    indexed = func.coalesce(documents.c.terms.contains(_term_ids(index, words)), True)
    query = terms_of(configuration(index), literal(words, Text))
    terms = select(func.array_agg(query.c.term, type_=ARRAY(Text))).scalar_subquery()
    live = select(*live_keys).where(func.coalesce(changed.c.words.contains(terms), terms.is_(None)))
    row = tuple_(*index.keys)
    return or_(and_(row.in_(select(*keys).where(indexed)), row.not_in(select(*stale_keys))), row.in_(live))


def _term_ids(index: SearchIndex, words: str) -> Any:
    """The numbers of the words' terms, 0 for one that no document has; null for words without a term."""
    query, terms = terms_of(configuration(index), literal(words, Text)), index.terms.alias("dictionary")
    ids = func.array_agg(func.coalesce(terms.c.id, 0), type_=ARRAY(Integer))
    return select(ids).select_from(query.outerjoin(terms, terms.c.term == query.c.term)).scalar_subquery()
