"""The shop's model, as it was before search, and the declaration that adds search to it."""

import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hybridsearch import SearchIndex


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    description: Mapped[str | None]
    brand: Mapped[str] = mapped_column(index=True)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    released: Mapped[datetime.date | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(JSONB)


products = SearchIndex(
    Product,
    fields={"title": 1.0, "description": 1.0},
    title="title",
    encoder="minilm",
    config="english",
)
