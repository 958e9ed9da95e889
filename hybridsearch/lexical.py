"""The lexical leg: exact BM25, the best documents without scoring all of them, by a function of the index's own.

    lexical(index, "red chair", candidates=100)     # Select(article_id, distance)

N, n and the average length are those of the statement's own snapshot. docs/sparse-engine.md says how it works.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    REAL,
    ColumnElement,
    Function,
    Integer,
    Select,
    String,
    Table,
    Text,
    and_,
    cast,
    column,
    func,
    literal,
    null,
    quoted_name,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, REGCLASS, REGCONFIG

from hybridsearch.constant import DOUBLE, constant
from hybridsearch.model import SearchIndex

_preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


def relation(table: Table) -> ColumnElement[Any]:
    """Return a table as an argument of a function that takes a regclass."""
    return cast(literal(_preparer.format_table(table), String), REGCLASS)


def routine(index: SearchIndex, name: str, *arguments: Any) -> Function[Any]:
    """Return a call of a function of the index's own: `<schema>.<index>_<name>`."""
    schema = index.table.schema
    packages = () if schema is None else (quoted_name(schema, quote=True),)
    return Function(quoted_name(f"{index.name}_{name}", quote=True), *arguments, packagenames=packages)


def terms_of(config: ColumnElement[Any], text: ColumnElement[str]) -> Any:
    """Return hybridsearch.terms(config, text) as a FROM element with `term` and `frequency`."""
    return func.hybridsearch.terms(config, text).table_valued(
        column("term", Text), column("frequency", Integer), name="query"
    )


def configuration(index: SearchIndex) -> ColumnElement[Any]:
    """Return the text search configuration of queries as an expression."""
    return func.hybridsearch.configuration(literal(index.query_config, Text), type_=REGCONFIG)


def row_configuration(index: SearchIndex) -> ColumnElement[Any]:
    """Return the text search configuration of a row of the model's table as an expression."""
    declared = func.hybridsearch.configuration(literal(index.config, Text), type_=REGCONFIG)
    if index.config_column is None:
        return declared
    named = func.hybridsearch.known_configuration(cast(index.config_column, Text), type_=REGCONFIG)
    return func.coalesce(named, declared)


def asked(index: SearchIndex, text: str, prefixes: Sequence[str] = ()) -> Select[Any]:
    """Return (term, times): the terms of a text, and the shortest terms of the dictionary with one of the prefixes."""
    query = terms_of(configuration(index), literal(text, Text))
    # A term may come twice, from two of the analysers.
    own = select(query.c.term, func.sum(query.c.frequency).label("times")).group_by(query.c.term)
    if not prefixes or index.engine != "sql":
        return own
    begun = routine(index, "beginning", literal(list(prefixes), ARRAY(Text))).column_valued("begun")
    every = union_all(own, select(begun, literal(1))).subquery("every")
    return select(every.c.term, func.max(every.c.times).label("times")).group_by(every.c.term)


def lexical(
    index: SearchIndex,
    text: str,
    *,
    candidates: int | ColumnElement[int],
    where: ColumnElement[bool] | None = None,
    prefixes: Sequence[str] = (),
    allowed: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """Return the best `candidates` documents by BM25: their keys and `distance`, the negated score, nearest first.

    Equal scores are ordered by key. A term that occurs twice in the query counts twice, one that begins with a prefix
    once. Only documents of which `where`, a condition on the model, holds are candidates; the statistics stay those of
    the whole index. Rows that have changed and are not indexed yet, up to 200, are scored as they are. `allowed` are
    the numbers of the documents of which `where` holds (`numbers_of`), where a statement has them already.
    """
    return ranked(index, asked(index, text, prefixes), candidates=candidates, where=where, allowed=allowed)


def ranked(
    index: SearchIndex,
    wanted: Select[Any],
    *,
    candidates: int | ColumnElement[int],
    where: ColumnElement[bool] | None = None,
    allowed: ColumnElement[Any] | None = None,
) -> Select[Any]:
    """Do the same for terms, given as a Select of (term, times)."""
    if where is not None and allowed is None:
        allowed = numbers_of(index, where)
    candidates = constant(candidates) if isinstance(candidates, int) else candidates
    best = _best(index, wanted, candidates, allowed)
    keys = [best.c[name] for name in index.key_names]
    distance = (-best.c.score).label("distance")
    leg = select(*keys, distance).order_by(distance, *keys).limit(candidates)
    # Rows that are too new to have a number come beside the allowed ones.
    return leg if where is None else leg.join_from(best, index.table, index.same_row(best)).where(where)


def _best(
    index: SearchIndex,
    query: Select[Any],
    candidates: ColumnElement[int],
    allowed: ColumnElement[Any] | None,
) -> Any:
    """Key and score of the best documents, as a subquery."""
    term = query.subquery("term")
    wanted = (
        select(func.array_agg(term.c.term).label("words"), func.array_agg(cast(term.c.times, Integer)).label("times"))
        .cte()
        .prefix_with("materialized")
    )
    columns = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    best = (
        routine(
            index,
            "best",
            wanted.c.words,
            wanted.c.times,
            cast(candidates, Integer),
            constant(float(index.bm25.k1)),
            constant(float(index.bm25.b)),
            cast(null(), ARRAY(Integer)) if allowed is None else allowed,
            true(),
            constant(index.bm25.idf),
            constant(float(index.bm25.epsilon)),
        )
        .table_valued(*columns, column("score", DOUBLE), name="best")
        .lateral()
    )
    return (
        select(*(best.c[name] for name in index.key_names), best.c.score)
        .join_from(wanted, best, true())
        .subquery("scored")
    )


def rows_of(index: SearchIndex, where: ColumnElement[bool] | None) -> Select[Any]:
    """Return the keys, by their names in the companions, of the rows of the model's table of which a condition holds.

    Nothing but the model stands in it: a condition with an EXISTS on a companion would take one beside it for its own.
    """
    names = zip(index.keys, index.key_names, strict=True)
    rows = select(*(key.label(name) for key, name in names)).select_from(index.model)
    return rows if where is None else rows.where(where)


def numbers_of(index: SearchIndex, where: ColumnElement[bool]) -> ColumnElement[Any]:
    """Return the numbers of the documents of which a condition on the model holds, as an array."""
    documents, rows = index.documents, rows_of(index, where).subquery("passing_row")
    same = and_(*(key == rows.c[key.name] for key in index.key_columns(documents)))
    return select(array_of(documents.c.id)).join_from(documents, rows, same).scalar_subquery()


def array_of(number: ColumnElement[int]) -> ColumnElement[Any]:
    """Return an array of the numbers in a column, empty where there are none."""
    return func.coalesce(func.array_agg(number), cast([], ARRAY(Integer)))


def changes(index: SearchIndex) -> Any:
    """Return the rows that the leg reads from the table, as a FROM element: their keys, what is indexed of them, and
    what they hold now.
    """
    keys = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    figures = [column("old_length", REAL), column("old_terms", ARRAY(Integer)), column("length", REAL)]
    return routine(index, "changes").table_valued(*keys, *figures, column("words", ARRAY(Text)))
