"""About what share of the documents passes a filter, by a sample that the statement itself takes.

    share = share_of(index, where)      # a CTE of one row and column, `share`; null where it cannot tell

Places all over the table of documents are read, without an index: some 2 microseconds each, and 3 for the condition.
"""

from typing import Any

from sqlalchemy import (
    CTE,
    REAL,
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Select,
    Table,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.types import UserDefinedType

from hybridsearch.conditions import of_model
from hybridsearch.constant import constant
from hybridsearch.lexical import relation
from hybridsearch.model import SearchIndex

SAMPLE = 128
LEAST = 32  # of fewer documents, a share says nothing

_relations = Table(
    "pg_class",
    MetaData(),
    *(Column("oid", Integer), Column("reltuples", REAL), Column("relpages", Integer)),
    schema="pg_catalog",
)


class _Tid(UserDefinedType[str]):
    """The place of a row in its table: page and number."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "tid"


def size_of(table: Table) -> ColumnElement[float]:
    """Return how many rows a table has by the planner's count, 0 before the first."""
    return _class(table, func.greatest(_relations.c.reltuples, constant(0.0))).scalar_subquery()


def share_of(index: SearchIndex, where: ColumnElement[bool]) -> CTE:
    """Return a row: the `share` of the documents whose rows the role sees, and of which the condition holds."""
    probe = _places(index.documents).subquery("probe")
    document = index.documents.alias("sampled_document")
    here = literal_column("sampled_document.ctid", _Tid()) == probe.c.place
    keys = select(*(document.c[name] for name in index.key_names)).where(here)
    found = keys.offset(literal_column("0")).correlate(probe).lateral("sampled")
    passes = case((of_model(index, found, where), constant(1.0)), else_=constant(0.0))
    share = case((func.count() >= constant(LEAST), cast(func.avg(passes), REAL))).label("share")
    return select(share).select_from(probe.join(found, literal_column("true"))).cte("passing_share")


def _places(table: Table) -> Select[Any]:
    numbers = (
        func.generate_series(constant(1), constant(SAMPLE))
        .table_valued(Column("number", Integer))
        .render_derived(name="numbers")
    )
    number, pages = numbers.c.number, _relations.c.relpages
    # Multiples of irrational numbers: as even as steps of one length, but in step with nothing in the data.
    page = _part(number, "0.6180339887498949", pages)
    line = constant(1) + _part(number, "0.4142135623730951", _relations.c.reltuples / func.nullif(pages, constant(0)))
    place = cast(func.format("(%s,%s)", page, line), _Tid()).label("place")
    return _class(table, place).select_from(_relations.join(numbers, literal_column("true"))).where(pages > 0)


def _part(number: ColumnElement[int], step: str, whole: ColumnElement[Any]) -> ColumnElement[int]:
    """A number from 0 to below `whole`, of so many steps of less than one, around."""
    turns = number * literal_column(f"{step}::float8")
    return cast(func.floor((turns - func.floor(turns)) * whole), BigInteger)


def _class(table: Table, what: ColumnElement[Any]) -> Select[Any]:
    return select(what).where(_relations.c.oid == relation(table))
