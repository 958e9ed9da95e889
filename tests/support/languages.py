"""A model whose rows name their own text search configuration."""

from types import SimpleNamespace
from typing import Any

from sqlalchemy import Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from hybridsearch import SearchIndex
from tests.support.encoders import WordHashEncoder


def notes(type_: Any = Text, **options: Any) -> SimpleNamespace:
    """Return a Base, a model Note(id, body, language), and an index over it, by each row's language."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]
        language: Mapped[str | None] = mapped_column(type_)

    options.setdefault("config", Note.language)
    return SimpleNamespace(
        Base=Base, Note=Note, index=SearchIndex(Note, ["body"], encoder=WordHashEncoder(), **options)
    )
