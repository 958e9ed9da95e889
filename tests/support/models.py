"""Fresh models for a test: SQLAlchemy keeps declared tables, so each test declares its own."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

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
