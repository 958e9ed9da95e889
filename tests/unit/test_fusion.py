"""The statement that fusion writes, and what it refuses. Its figures are held against an oracle on a server."""

import re
from typing import Any

import pytest
from sqlalchemy import Float, Integer, Select, column, select, table
from sqlalchemy.dialects import postgresql

from hybridsearch import QueryError, rrf


def leg(name: str, *keys: str) -> Select[Any]:
    source = table(name, *(column(key, Integer) for key in keys), column("distance", Float))
    return select(*source.c)


LEGS = {"dense": leg("near", "id"), "lexical": leg("worded", "id")}


def sql(statement: Select[Any]) -> str:
    compiled = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    return re.sub(r"\s+", " ", str(compiled))


def test_every_leg_is_ranked_by_distance_then_key() -> None:
    text = sql(rrf(LEGS, keys=["id"]))
    for name in LEGS:
        assert f"row_number() OVER (ORDER BY {name}.distance, {name}.id)" in text


def test_ties_of_the_fused_score_are_broken_by_key() -> None:
    assert sql(rrf(LEGS, keys=["id"])).endswith(" DESC, entry.id")


def test_every_column_of_a_composite_key_breaks_ties() -> None:
    text = sql(rrf({"dense": leg("near", "tenant", "number")}, keys=["tenant", "number"]))
    assert "OVER (ORDER BY dense.distance, dense.tenant, dense.number)" in text
    assert text.endswith(" DESC, entry.tenant, entry.number")


def test_a_score_and_a_rank_for_each_leg_are_returned() -> None:
    said = [f"{what}_{leg}" for what in ("rank", "distance", "share") for leg in LEGS]
    assert list(rrf(LEGS, keys=["id"]).selected_columns.keys()) == ["id", "score", *said]


def test_one_leg_alone_is_ranked_too() -> None:
    text = sql(rrf({"lexical": LEGS["lexical"]}, keys=["id"]))
    assert "rank_lexical" in text
    assert "UNION ALL" not in text


def test_k_and_weights_are_in_the_sum() -> None:
    text = sql(rrf(LEGS, keys=["id"], k=10, weights={"dense": 3}))
    # SQLAlchemy 2.1 writes a cast around the divisor.
    assert re.search(r"\b3\.0 / (CAST\()?\(10\.0 \+ CAST\(row_number\(\)", text)
    assert re.search(r"\b1\.0 / (CAST\()?\(10\.0 \+ CAST\(row_number\(\)", text)


def test_a_leg_may_weigh_nothing_while_another_weighs_something() -> None:
    assert re.search(r"\b0\.0 / (CAST\()?\(60\.0", sql(rrf(LEGS, keys=["id"], weights={"dense": 0})))


def test_no_legs_are_refused() -> None:
    with pytest.raises(QueryError, match="no leg to fuse"):
        rrf({}, keys=["id"])


def test_a_weight_for_an_unknown_leg_is_answered_with_the_legs() -> None:
    with pytest.raises(QueryError, match="unknown leg 'sparse': the legs are dense, lexical"):
        rrf(LEGS, keys=["id"], weights={"sparse": 1})


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
def test_a_weight_is_a_number_from_0_up(weight: float) -> None:
    with pytest.raises(QueryError, match="of leg 'dense': give a number from 0 up"):
        rrf(LEGS, keys=["id"], weights={"dense": weight})


def test_not_all_weights_are_0() -> None:
    with pytest.raises(QueryError, match="all weights are 0"):
        rrf(LEGS, keys=["id"], weights={"dense": 0, "lexical": 0.0})


@pytest.mark.parametrize("k", [-1, float("nan"), float("inf")])
def test_k_is_a_number_from_0_up(k: float) -> None:
    with pytest.raises(QueryError, match=r"k is .*: give a number from 0 up"):
        rrf(LEGS, keys=["id"], k=k)
