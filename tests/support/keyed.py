"""Models of every shape of key, with rows of a small library: the same seven texts under each."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Integer, Text, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hybridsearch import SearchIndex
from tests.support.encoders import WordHashEncoder

TEXTS = [
    ("Red chair", "A comfortable chair made of oak, painted red."),
    ("Blue table", "A table for six people."),
    ("Garden chair", None),
    (None, "Holds red books and blue books."),
    (None, None),
    ("", "   "),
    ("Lamp", "Emits a warm light; the shade is yellow paper."),
]
SPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


@dataclass(frozen=True)
class Shape:
    """A kind of primary key: its columns, and the values of the n-th row's key."""

    name: str
    columns: dict[str, Any]
    key: Callable[[int], tuple[Any, ...]]
    table: str = "item"
    schema: str | None = None


SHAPES = [
    Shape("integer", {"id": Integer()}, lambda n: (n,)),
    Shape("negative integer", {"id": Integer()}, lambda n: (n - 4,)),
    Shape("uuid", {"id": Uuid()}, lambda n: (uuid.uuid5(SPACE, str(n)),)),
    Shape("text", {"id": Text()}, lambda n: (("Ünïcode-", "b'or\"1", "a b", "%s", "B", "", "zz")[n],)),
    Shape("composite", {"tenant": Text(), "number": Integer()}, lambda n: ("north" if n % 2 else "south", n // 2)),
    Shape("schema-qualified", {"id": Integer()}, lambda n: (n,), schema="store"),
    Shape("quoted names", {"Order": Integer()}, lambda n: (n,), table='Line "of" Order', schema="My Store"),
]


@dataclass(frozen=True)
class Declared:
    """A declared model with its index."""

    shape: Shape
    Base: type[DeclarativeBase]
    Item: type[Any]
    index: SearchIndex

    def rows(self) -> list[Any]:
        """Return the rows, not yet added to a session."""
        return [self.row(n, title, body) for n, (title, body) in enumerate(TEXTS)]

    def row(self, n: int, title: str | None, body: str | None) -> Any:
        return self.Item(**dict(zip(self.shape.columns, self.shape.key(n), strict=True)), title=title, body=body)

    def key(self, item: Any) -> tuple[Any, ...]:
        return tuple(getattr(item, name) for name in self.shape.columns)


def declare(shape: Shape) -> Declared:
    """Declare a model of the shape, nullable in every field, and an index over it."""

    class Base(DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = shape.table
        __table_args__ = {"schema": shape.schema}  # noqa: RUF012

        title: Mapped[str | None]
        body: Mapped[str | None]
        # Declared by a loop, which a class body allows as well.
        locals().update({name: mapped_column(type_, primary_key=True) for name, type_ in shape.columns.items()})

    index = SearchIndex(Item, ["title", "body"], encoder=WordHashEncoder(), title="title", name="item")
    return Declared(shape, Base, Item, index)
