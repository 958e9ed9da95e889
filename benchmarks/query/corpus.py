"""A corpus of any size for query benchmarks: clustered vectors, Zipf text, columns to filter by. Seeded.

    engine = create_engine(...)
    build(engine, 100_000)          # what is there already is not made again: a stopped build goes on
    for query in queries(200): ...  # Query(text, dense)

Vectors lie in 2,000 clusters of a 32-dimensional space that is turned into 384 dimensions, with a little noise in all
of them: as text embeddings, whose intrinsic dimension is far below their own. Every fourth document has two chunks.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg import Cursor
from sqlalchemy import Engine, ForeignKey, MetaData, delete, insert, inspect, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.schema import CreateSchema

from hybridsearch import Encoding, Query, SearchIndex
from hybridsearch.postings import build as build_words
from hybridsearch.postings import prepare
from hybridsearch.schema import migrate

sys.path.insert(0, str(Path(__file__).parents[1] / "lexical"))
import zipf

DIMENSIONS, LATENT, CLUSTERS = 384, 32, 2000
SPREAD, NOISE = 0.6, 0.01
WORDS = 24
PAGE = 8000
AUTHORS = 500
LANGUAGES = ("en", "de", "fr", "zh")
EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


class Vectors:
    """An encoder of no text: its queries come with their vectors."""

    name, fingerprint, dimensions, sparse_dimensions, max_tokens = "synthetic", "synthetic:1", DIMENSIONS, None, 128

    def encode_queries(self, texts: Any) -> Encoding:
        raise NotImplementedError

    encode_documents = encode_queries

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return []


class Base(DeclarativeBase):
    metadata = MetaData(schema="bench")


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str]


class Article(Base):
    __tablename__ = "article"

    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    draw: Mapped[int] = mapped_column(index=True)
    """Uniform below 1,000: `draw < 10` keeps 1 %."""
    language: Mapped[str]
    views: Mapped[int]
    published: Mapped[datetime]
    properties: Mapped[dict[str, Any]] = mapped_column(JSONB)
    author_id: Mapped[int] = mapped_column(ForeignKey(Author.id))
    author: Mapped[Author] = relationship()


index = SearchIndex(Article, ["body"], encoder=Vectors(), config="simple")  # type: ignore[arg-type]


def build(engine: Engine, chunks: int, report: Callable[[str, float], None] = lambda step, seconds: None) -> None:
    """Fill the tables for so many chunks: each step once, in a transaction of its own."""
    documents = chunks * 4 // 5
    steps: list[tuple[str, Callable[[], None]]] = [
        ("tables", lambda: _tables(engine)),
        ("documents", lambda: _documents(engine, documents)),
        ("chunks", lambda: _chunks(engine, documents)),
        ("hnsw", lambda: _hnsw(engine)),
        ("lexical", lambda: _lexical(engine)),
        ("analyze", lambda: _analyze(engine)),
    ]
    for name, step in steps:
        once(engine, name, step, report)
    with engine.begin() as connection:
        migrate(connection)  # functions of a release newer than the corpus


def once(
    engine: Engine,
    name: str,
    step: Callable[[], None],
    report: Callable[[str, float], None] = lambda step, seconds: None,
) -> None:
    """Do a step unless it was done in this database, and note how long it took."""
    if name in _done(engine):
        return
    begun = time.perf_counter()
    step()
    seconds = time.perf_counter() - begun
    with engine.begin() as connection:
        values = {"name": name, "seconds": seconds}
        connection.execute(text("insert into bench.step values (:name, :seconds)"), values)
    report(name, seconds)


def seconds(engine: Engine) -> dict[str, float]:
    """Return how long each step took."""
    with engine.connect() as connection:
        return {row.name: row.seconds for row in connection.execute(text("select name, seconds from bench.step"))}


def vectors(numbers: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.float32]:
    """Return one vector of norm 1 for each number; the same number and seed give the same vector."""
    space = np.random.default_rng(7)
    centres = space.standard_normal((CLUSTERS, LATENT)).astype(np.float32)
    turn = np.linalg.qr(space.standard_normal((DIMENSIONS, LATENT)))[0].astype(np.float32)
    own = np.random.default_rng([seed, int(numbers[0])])
    latent = centres[own.integers(CLUSTERS, size=len(numbers))]
    latent = latent + SPREAD * own.standard_normal(latent.shape, dtype=np.float32)
    made = latent @ turn.T + NOISE * own.standard_normal((len(numbers), DIMENSIONS), dtype=np.float32)
    unit: npt.NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def queries(count: int) -> Iterator[Query]:
    """Yield queries of 2 to 6 words and a vector."""
    dense = vectors(np.arange(count), seed=3)
    for words, vector in zip(zipf.queries(count), dense, strict=True):
        yield Query(" ".join(words), vector)


def _done(engine: Engine) -> set[str]:
    with engine.begin() as connection:
        connection.execute(CreateSchema("bench", if_not_exists=True))
        connection.execute(text("create table if not exists bench.step (name text primary key, seconds float8)"))
        return set(connection.scalars(text("select name from bench.step")))


def _tables(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate(connection)
        Base.metadata.create_all(connection)
        connection.execute(text("drop index bench.article_chunk_dense_idx"))
    with Session(engine) as session, session.begin():
        authors = [{"id": n, "country": LANGUAGES[n % 4]} for n in range(1, AUTHORS + 1)]
        session.execute(insert(Author), authors)
        prepare(session, index)


def _documents(engine: Engine, count: int) -> None:
    rng = np.random.default_rng(5)
    columns = "id, body, draw, language, views, published, properties, author_id"
    with engine.begin() as connection:
        cursor = _cursor(connection)
        cursor.execute("truncate bench.article cascade")
        with cursor.copy(f"copy bench.article ({columns}) from stdin") as copy:
            for number, body in zipf.documents(count):
                draw, views, day = int(rng.integers(1000)), int(rng.pareto(1.2) * 10), int(rng.integers(2000))
                words = " ".join(body.split(" ", WORDS)[:WORDS])
                published = datetime.fromtimestamp(EPOCH.timestamp() + day * 86_400, UTC)
                colour = f'{{"colour": "c{draw % 7}", "size": {draw % 50}}}'
                language, author = LANGUAGES[draw % 4], 1 + number % AUTHORS
                copy.write_row((number + 1, words, draw, language, views, published, colour, author))
        cursor.execute("analyze bench.article")


def _chunks(engine: Engine, documents: int) -> None:
    """Write chunks in PostgreSQL's binary form of COPY, which numpy makes a page at a time."""
    columns = "article_id, ordinal, start, stop, text, dense"
    head = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    with engine.begin() as connection:
        cursor = _cursor(connection)
        cursor.execute("truncate bench.article_chunk")
        with cursor.copy(f"copy bench.article_chunk ({columns}) from stdin (format binary)") as copy:
            copy.write(head)
            for start in range(0, documents, PAGE):
                numbers = np.arange(start, min(start + PAGE, documents))
                copy.write(_rows(numbers, 0, vectors(numbers, seed=1)))
                second = numbers[numbers % 4 == 0]
                copy.write(_rows(second, 1, vectors(second, seed=2)))
            copy.write(b"\xff\xff")


ROW = np.dtype(
    [("columns", ">i2")]
    + [item for name in ("key", "ordinal", "start", "stop") for item in ((f"{name}_size", ">i4"), (name, ">i4"))]
    + [("text_size", ">i4"), ("dense_size", ">i4"), ("dimensions", ">i2"), ("unused", ">i2")]
    + [("dense", ">f2", DIMENSIONS)]
)


def _rows(numbers: npt.NDArray[np.int64], ordinal: int, dense: npt.NDArray[np.float32]) -> bytes:
    rows = np.zeros(len(numbers), ROW)
    rows["columns"] = 6
    for name in ("key", "ordinal", "start", "stop"):
        rows[f"{name}_size"] = 4
    rows["key"], rows["ordinal"] = numbers + 1, ordinal
    rows["dense_size"], rows["dimensions"], rows["dense"] = 4 + 2 * DIMENSIONS, DIMENSIONS, dense
    return rows.tobytes()


def _hnsw(engine: Engine) -> None:
    (made,) = [one for one in index.chunks.indexes if one.name == "article_chunk_dense_idx"]
    with engine.begin() as connection:
        connection.execute(text("set local maintenance_work_mem = '3GB'"))
        connection.execute(text(f"set local max_parallel_maintenance_workers = {(os.cpu_count() or 2) - 1}"))
        made.create(connection, checkfirst=True)


def _lexical(engine: Engine) -> None:
    with Session(engine) as session:
        while build_words(session, index):
            session.commit()
        session.execute(delete(index.changes))  # what the triggers have noted is done
        session.commit()


def _analyze(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in inspect(connection).get_table_names(schema="bench"):
            connection.execute(text(f'vacuum analyze bench."{name}"'))


def _cursor(connection: Any) -> Cursor[Any]:
    cursor: Cursor[Any] = connection.connection.driver_connection.cursor()
    return cursor
