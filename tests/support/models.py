"""Fresh models for a test: SQLAlchemy keeps declared tables, so each test declares its own."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import SearchIndex
from tests.support.encoders import WordHashEncoder


def articles(**options: Any) -> SimpleNamespace:
    """Return a Base, a model Article(id, title, body), and an index over it."""

    class Base(DeclarativeBase):
        pass

    class Article(Base):
        __tablename__ = "article"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        body: Mapped[str | None]

    options.setdefault("encoder", WordHashEncoder())
    options.setdefault("fields", {"title": 1.0, "body": 1.0})
    return SimpleNamespace(Base=Base, Article=Article, index=SearchIndex(Article, **options))


TEXTS = [
    ("Red chair", "A comfortable chair made of oak, painted red."),
    ("Blue table", "A table for six people."),
    ("Garden chair", None),
    ("Oak shelf", "Holds red books and blue books."),
]


def fill(engine: Engine, shop: SimpleNamespace) -> None:
    """Make the tables of `articles()`, with four rows, numbered from 1."""
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(shop.Article(id=n, title=title, body=body) for n, (title, body) in enumerate(TEXTS, 1))
        session.commit()
