"""A filter that comes as JSON to article_search holds for the rows for which the same condition holds in Python."""

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import CHAR, Numeric, String, and_, not_, or_, text
from sqlalchemy.dialects.postgresql import ARRAY, BIT, JSONB, TIMESTAMP, TSVECTOR
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import HybridSearch, SearchIndex
from hybridsearch.backfill import backfill
from tests.support.encoders import WordHashEncoder

CALL = text("select part_id from part_search('part', 100, cast(:filter as jsonb), legs => '{lexical}')")


class Base(DeclarativeBase):
    pass


class Part(Base):
    """Columns whose types round or cut what is written into them."""

    __tablename__ = "part"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    code: Mapped[str | None] = mapped_column(String(3))
    fixed: Mapped[str | None] = mapped_column(CHAR(3))
    flags: Mapped[str | None] = mapped_column(BIT(3))
    made: Mapped[datetime | None] = mapped_column(TIMESTAMP(precision=0))
    sizes: Mapped[list[Decimal] | None] = mapped_column(ARRAY(Numeric(4, 1)))
    short: Mapped[str | None] = mapped_column(String(3))  # in the database, a domain over that
    properties: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    words: Mapped[Any] = mapped_column(TSVECTOR, nullable=True)


INDEX = SearchIndex(Part, ["name"], encoder=WordHashEncoder())


@dataclass(frozen=True)
class Parts:
    """A database with six parts, of which the last has nothing but a name."""

    engine: Engine

    def found(self, filter: Any) -> set[int]:
        """The keys that the SQL function finds."""
        with self.engine.connect() as connection:
            return set(connection.scalars(CALL, {"filter": json.dumps(filter)}))

    def expected(self, where: Any) -> set[int]:
        """The keys that Python finds."""
        with Session(self.engine) as session:
            hits = HybridSearch(INDEX).search(session, "part", where=where, legs=["lexical"], limit=100)
            return {hit.document.id for hit in hits}

    def refusal(self, filter: Any) -> str:
        with pytest.raises(DBAPIError) as raised:
            self.found(filter)
        assert raised.value.orig is not None
        assert raised.value.orig.sqlstate == "22023"  # type: ignore[attr-defined]
        return str(raised.value.orig)


@pytest.fixture(scope="module")
def parts(shared_engine: Engine) -> Parts:
    Base.metadata.create_all(shared_engine)
    with shared_engine.begin() as connection:
        connection.execute(text("create domain short_code as varchar(3)"))
        connection.execute(text("alter table part alter column short type short_code"))
    with Session(shared_engine) as session, session.begin():
        for n, (price, code, flags) in enumerate(
            [
                ("9.99", "abc", "101"),
                ("10.00", "ab", "100"),
                ("10.01", "abd", "111"),
                ("-0.5", "a", "000"),
                ("7", "", "010"),
            ],
            1,
        ):
            session.add(
                Part(
                    id=n,
                    name=f"part {n}",
                    price=Decimal(price),
                    code=code,
                    fixed=code,
                    made=datetime(2024, 1, n, 12),
                    sizes=[Decimal(n), Decimal("0.5")],
                    short=code,
                    properties={"n": n},
                )
            )
            session.flush()
            session.execute(
                text("update part set flags = cast(:flags as bit(3)) where id = :id"), {"flags": flags, "id": n}
            )
        session.add(Part(id=6, name="part 6"))
    backfill(shared_engine, INDEX)
    return Parts(shared_engine)


@pytest.mark.parametrize(
    ("filter", "where", "count"),
    [
        ({"price": {"gte": 9.994}}, Part.price >= Decimal("9.994"), 2),
        ({"price": {"lt": 9.994}}, Part.price < Decimal("9.994"), 3),
        ({"price": 9.994}, Part.price == Decimal("9.994"), 0),
        ({"price": "9.990"}, Part.price == Decimal("9.990"), 1),
        ({"price": [9.994, 10]}, Part.price.in_([Decimal("9.994"), Decimal(10)]), 1),
        ({"price": {"gte": 123456789012}}, Part.price >= Decimal(123456789012), 0),
        ({"code": "abcdef"}, Part.code == "abcdef", 0),
        ({"code": "abc"}, Part.code == "abc", 1),
        ({"code": {"ne": "abcdef"}}, Part.code != "abcdef", 5),
        ({"code": {"gt": "abcd"}}, Part.code > "abcd", 1),
        ({"code": ["abcdef", "ab"]}, Part.code.in_(["abcdef", "ab"]), 1),
        ({"fixed": "abcdef"}, Part.fixed == "abcdef", 0),
        ({"fixed": "ab"}, Part.fixed == "ab", 1),
        ({"fixed": ["abcdef", "a"]}, Part.fixed.in_(["abcdef", "a"]), 1),
        ({"short": "abcdef"}, Part.short == "abcdef", 0),
        ({"short": ["abcdef", "abd"]}, Part.short.in_(["abcdef", "abd"]), 1),
        ({"made": "2024-01-01 12:00:00.4"}, Part.made == datetime(2024, 1, 1, 12, 0, 0, 400_000), 0),
        ({"made": {"gt": "2024-01-01 12:00:00.4"}}, Part.made > datetime(2024, 1, 1, 12, 0, 0, 400_000), 4),
        ({"sizes": {"contains": 0.5}}, Part.sizes.contains([Decimal("0.5")]), 5),
    ],
)  # fmt: skip
def test_a_value_is_not_cut_to_what_the_column_holds(parts: Parts, filter: Any, where: Any, count: int) -> None:
    assert parts.found(filter) == parts.expected(where)
    assert len(parts.found(filter)) == count


def test_what_python_cannot_ask_is_compared_whole_too(parts: Parts) -> None:
    assert parts.found({"sizes": {"contains": [0.54]}}) == set()  # SQLAlchemy writes ::NUMERIC(4, 1)[], and so cuts it
    assert parts.found({"flags": "101"}) == {1}
    assert parts.found({"flags": "1"}) == parts.found({"flags": "1010"}) == set()
    assert parts.found({"flags": ["100", "111", "1"]}) == {2, 3}


@pytest.mark.parametrize(
    ("filter", "where", "count"),
    [
        ({"code": ["abc", None]}, or_(Part.code == "abc", Part.code.is_(None)), 2),
        ({"code": [None]}, Part.code.is_(None), 1),
        ({"code": {"ne": ["abc", None]}}, not_(or_(Part.code == "abc", Part.code.is_(None))), 4),
        ({"code": {"ne": [None]}}, Part.code.is_not(None), 5),
        ({"code": {"ne": ["abc"]}}, Part.code != "abc", 4),
        ({"code": {"ne": "abc"}}, Part.code != "abc", 4),
        ({"code": {"ne": None}}, Part.code.is_not(None), 5),
        ({"code": []}, Part.code.in_([]), 0),
        ({"code": {"ne": []}}, Part.code.not_in([]), 6),
        # One condition beside others, not the half of it.
        ({"code": ["abc", None], "id": 6}, and_(or_(Part.code == "abc", Part.code.is_(None)), Part.id == 6), 1),
        ({"properties": {"eq": {"n": 3}}}, Part.properties == {"n": 3}, 1),
        ({"properties": None}, Part.properties.is_(None), 1),
    ],
)
def test_null_among_values_means_that_there_is_none(parts: Parts, filter: Any, where: Any, count: int) -> None:
    assert parts.found(filter) == parts.expected(where)
    assert len(parts.found(filter)) == count


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"id": {}}, 'filter on "id" is {}: give operators, such as {"gte": 1}'),
        ({"properties": {}}, 'filter on "properties" is {}: give operators'),
        ({"id": {"lt": None}}, 'filter on "id": null is neither less nor more than anything, nor contained'),
        ({"sizes": {"contains": None}}, 'filter on "sizes": null is neither less'),
        ({"price": "cheap"}, """filter on "price": 'cheap' is no numeric"""),
        ({"words": {"eq": "'"}}, """filter on "words": '''' is no tsvector"""),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(parts: Parts, filter: Any, said: str) -> None:
    assert said in parts.refusal(filter)


def test_a_filter_without_columns_lets_everything_through(parts: Parts) -> None:
    assert len(parts.found({})) == 6
