"""A library of any size: books with authors, tags and properties to filter by, and vectors that lie in clusters.

library = declare()
library.fill(engine, 100_000)       # rows and vectors alone, and an HNSW index over them
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, ForeignKey, insert, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from hybridsearch import SearchIndex
from tests.support.encoders import WordHashEncoder

DIMENSIONS = 32
CLUSTERS = 200
AUTHORS = 100


@dataclass(frozen=True)
class Library:
    """The declared models and the index over books."""

    Base: type[DeclarativeBase]
    Book: type[Any]
    Author: type[Any]
    Tag: type[Any]
    index: SearchIndex

    def fill(self, engine: Engine, books: int, *, chunks: int = 1) -> None:
        """Write books, numbered from 1, with so many chunks each; `draw` is uniform from 0 to 999."""
        self.Base.metadata.create_all(engine)
        rng = np.random.default_rng(1)
        draws = rng.integers(1000, size=books)
        with Session(engine) as session, session.begin():
            session.execute(insert(self.Author), [{"id": n, "country": ("de", "fr")[n % 2]} for n in range(AUTHORS)])
            cursor = session.connection().connection.driver_connection.cursor()  # type: ignore[union-attr]
            with cursor.copy("copy book (id, title, draw, properties, author_id) from stdin") as copy:
                for n, draw in enumerate(draws.tolist(), 1):
                    copy.write_row((n, f"Book {n}", draw, f'{{"pages": {draw}}}', n % AUTHORS))
            session.execute(text("drop index book_chunk_dense_idx"))
            with cursor.copy("copy book_chunk (book_id, ordinal, start, stop, text, dense) from stdin") as copy:
                for ordinal in range(chunks):
                    for n, vector in enumerate(vectors(books, seed=ordinal), 1):
                        copy.write_row((n, ordinal, 0, 0, "", "[" + ",".join(map("{:.4f}".format, vector)) + "]"))
            session.execute(text("set local maintenance_work_mem = '512MB'"))
            for made in self.index.chunks.indexes:
                made.create(session.connection(), checkfirst=True)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("vacuum analyze book, author, book_chunk"))


def vectors(count: int, *, seed: int) -> np.ndarray:
    """Return so many vectors of norm 1 in clusters, the same clusters for every seed.

    Wide ones: between tight clusters an HNSW graph may have no way, and which it misses is each build's luck.
    """
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIMENSIONS))
    rng = np.random.default_rng([2, seed])
    made = centres[rng.integers(CLUSTERS, size=count)] + 0.85 * rng.standard_normal((count, DIMENSIONS))
    unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit.astype(np.float32)


def exact(session: Session, library: Library, vector: Sequence[float], condition: str, count: int) -> list[int]:
    """The ids of the nearest books, of which a condition in SQL holds, by comparing all of them."""
    nearest = text(
        f"""
        select b.id from book as b join book_chunk as c on c.book_id = b.id where {condition}
        group by b.id order by min(0.0 + (c.dense <=> cast(:vector as halfvec))), b.id limit :count
        """
    )
    return list(session.scalars(nearest, {"vector": str(list(map(float, vector))), "count": count}))


def declare(**options: Any) -> Library:
    """Declare fresh models."""

    class Base(DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "author"

        id: Mapped[int] = mapped_column(primary_key=True)
        country: Mapped[str]

    class Tag(Base):
        __tablename__ = "tag"

        book_id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
        name: Mapped[str] = mapped_column(primary_key=True)

    class Book(Base):
        __tablename__ = "book"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        draw: Mapped[int] = mapped_column(index=True)
        properties: Mapped[dict[str, Any]] = mapped_column(JSONB)
        author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
        author: Mapped[Author] = relationship()
        tags: Mapped[list[Tag]] = relationship()

    options.setdefault("encoder", WordHashEncoder(DIMENSIONS))
    return Library(Base, Book, Author, Tag, SearchIndex(Book, ["title"], **options))
