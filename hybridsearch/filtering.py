"""How a leg is full under a filter: of few rows that pass all are compared; else it looks on, or looks at more.

    passing, few = few_passing(index, candidates, where, "dense")       # a CTE of keys, and whether that is all of them
    full(index, "sparse", best, compared, candidates, where)            # Select(article_id, distance)

The statement chooses for itself, as it runs: docs/query.md has the rule, and what was measured.
"""

from collections.abc import Callable
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
    and_,
    case,
    func,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)
from sqlalchemy import cast as sql_cast

from hybridsearch.conditions import of_model, restricted
from hybridsearch.lexical import relation
from hybridsearch.model import SearchIndex

Condition = ColumnElement[bool]

# A row that a scan passes by costs about four times a row that is looked up and compared. To meet enough of those that
# pass, a scan passes by candidates / share rows; all that pass are share x chunks. So comparing them is the cheaper way
# while their number, squared, is below 4 x candidates x chunks.
PRICE = 4.0
ALWAYS_FEW = 1000.0

# Of the best of all, so many times the candidates are looked at for those that pass a filter.
WIDE = 5
WIDEST = 1000

_relations = Table("pg_class", MetaData(), Column("oid", Integer), Column("reltuples", REAL), schema="pg_catalog")


def few_passing(index: SearchIndex, candidates: int, where: Condition | None, name: str) -> tuple[CTE, Condition]:
    """Return the keys of the rows that pass, if these are few, and the condition that they are; `name` is the leg's.

    Reads no more than few rows.

    Without a filter, the rows that pass are those that row-level security shows, where it is active.
    """
    chunks = func.greatest(_relations.c.reltuples, 0.0)
    few = func.greatest(ALWAYS_FEW, func.sqrt(PRICE * float(candidates) * chunks))
    filtered = restricted(index) if where is None else literal_column("true")
    most = (
        select(case((filtered, sql_cast(few, BigInteger)), else_=-1).label("most"))
        .where(_relations.c.oid == relation(index.chunks))
        .cte(f"{name}_most")
    )
    names = zip(index.keys, index.key_names, strict=True)
    passing = select(*(key.label(name) for key, name in names)).select_from(index.model)
    if where is not None:
        passing = passing.where(where)
    keys = passing.limit(select(most.c.most + 1).scalar_subquery()).cte(f"{name}_passing")
    counted = (
        select((func.count() <= select(most.c.most).scalar_subquery()).label("few"))
        .select_from(keys)
        .cte(f"{name}_choice")
    )
    return keys, select(counted.c.few).scalar_subquery()


def full(
    index: SearchIndex,
    name: str,
    best: Callable[[int], Select[Any]],
    told: Select[Any],
    candidates: int,
    where: Condition,
) -> Select[Any]:
    """Return a leg under a filter: keys and `distance` of its `candidates` best documents that pass.

    `best` makes the leg without the filter, for so many candidates. Under a filter that keeps much these are looked at
    first: where enough of them pass, they are the best of those that pass. Else `told` is run: the leg with the filter.
    """
    wide = min(WIDEST, WIDE * candidates)
    _, few = few_passing(index, candidates, where, name)
    widened = select(best(wide).subquery(f"{name}_unfiltered")).where(not_(few)).cte(f"{name}_of_all")
    passing = select(widened).where(of_model(index, widened, where)).cte(f"{name}_of_passing")
    found, looked_at = (select(func.count()).select_from(one).scalar_subquery() for one in (passing, widened))
    missing = or_(few, and_(found < candidates, looked_at >= wide))
    every = union_all(
        select(passing).where(not_(missing)), select(told.subquery(f"{name}_told")).where(missing)
    ).subquery(f"{name}_full")
    keys = [every.c[key] for key in index.key_names]
    return select(*keys, every.c.distance).order_by(every.c.distance, *keys).limit(candidates)
