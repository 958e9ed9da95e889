"""Check what a caller says of the model in SQLAlchemy's language: conditions, and expressions to rank or count by.

condition(index, Article.author.has(Author.country == "de"))
expression(index, "boost recent", Article.views)
"""

from typing import Any, cast

from sqlalchemy import Boolean, ColumnElement, Select, TextClause, and_, exists, func, literal_column, not_, or_, select
from sqlalchemy.exc import ArgumentError
from sqlalchemy.types import NullType

from hybridsearch.errors import QueryError
from hybridsearch.lexical import relation
from hybridsearch.model import SearchIndex


def condition(index: SearchIndex, where: Any) -> ColumnElement[bool] | None:
    """Return a condition on rows of the model, None for None.

    It may look into other tables by EXISTS, as a relationship's `any()` and `has()` do. Raises QueryError for what is
    no condition, or would need a join.
    """
    if where is None:
        return None
    try:
        made = and_(where)
    except ArgumentError as error:
        raise QueryError(f"where is {where!r}: give a SQLAlchemy condition on the model ({error})") from error
    if not isinstance(made.type, Boolean | NullType):
        raise QueryError(f"where is {made}, of type {made.type}: give a condition, which is true or false")
    return expression(index, "where", made)


def expression(index: SearchIndex, what: str, given: Any) -> ColumnElement[Any]:
    """Return an expression on a row of the model; raise QueryError for anything else. `what` is its name in errors."""
    clause = given.__clause_element__() if hasattr(given, "__clause_element__") else given
    if not isinstance(clause, ColumnElement | TextClause):
        raise QueryError(f"{what} is {given!r}: give a SQLAlchemy expression on {index.model.__name__}")
    own = set(index.mapper.tables)
    for source in select(clause).get_final_froms():
        if source not in own:
            raise QueryError(
                f"{what} is about {source.description!r}, which is not the table of {index.model.__name__}: ask for it "
                f"with a relationship's any() or has(), an EXISTS, or a scalar subquery"
            )
    return cast(ColumnElement[Any], clause)


def of_model(index: SearchIndex, companion: Any, where: ColumnElement[bool] | None = None) -> ColumnElement[bool]:
    """Return the condition that a companion's row is of a row of the model that the role may see, and `where` holds.

    OFFSET 0 keeps the planner from joining: whatever it thinks of the condition, it stays a filter over the scan.
    """
    seen: Select[Any] = (
        select(literal_column("1"))
        .select_from(index.model)
        .where(index.same_row(companion))
        .offset(literal_column("0"))
    )
    if where is not None:
        return exists(seen.where(where))
    return or_(not_(restricted(index)), exists(seen))


def restricted(index: SearchIndex) -> ColumnElement[bool]:
    """Return whether row-level security hides rows of the model's table from the role; decided once a statement."""
    return select(func.row_security_active(relation(index.table))).scalar_subquery()
