"""What is compared: each system indexes `source(id, body)`, then answers a query's words with the ids of the best.

Words are stemmed and stopped by one PostgreSQL configuration in all of them.
"""

import time
from collections.abc import Iterable
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Engine, insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import SearchIndex
from hybridsearch.lexical import lexical
from hybridsearch.postings import add_documents, build, prepare
from hybridsearch.schema import migrate

Connection = psycopg.Connection[Any]
SENTINEL = "the words of the query"


def copied(connection: Connection, other: Connection) -> None:
    """Copy the table `source` from one server to another."""
    other.execute("drop table if exists source cascade")
    other.execute("create table source (id integer primary key, body text not null)")
    with (
        connection.cursor().copy("copy source (id, body) to stdout (format binary)") as read,
        other.cursor().copy("copy source (id, body) from stdin (format binary)") as write,
    ):
        for block in read:
            write.write(block)
    other.execute("vacuum analyze source")


def load(connection: Connection, documents: Iterable[tuple[int, str]]) -> int:
    """Fill the table `source`; return the number of documents."""
    connection.execute("drop table if exists source cascade")
    connection.execute("create table source (id integer primary key, body text not null)")
    count = 0
    with connection.cursor() as cursor, cursor.copy("copy source (id, body) from stdin") as copy:
        for number, body in documents:
            copy.write_row((number + 1, body))
            count += 1
    connection.execute("vacuum analyze source")
    return count


class TsRank:
    """The usual way without an extension: a stored tsvector, a GIN index, OR of the words, ts_rank."""

    def __init__(self, connection: Connection, config: str) -> None:
        self.connection, self.config = connection, config

    def build(self) -> float:
        begun = time.perf_counter()
        column = "alter table source add v tsvector generated always as (to_tsvector({}, body)) stored"
        self.connection.execute(sql.SQL(column).format(sql.Literal(self.config)))
        self.connection.execute("create index source_v on source using gin (v)")
        seconds = time.perf_counter() - begun
        self.connection.execute("vacuum analyze source")
        return seconds

    def size(self) -> int:
        return _number(
            self.connection, "select pg_relation_size('source_v') + (select sum(pg_column_size(v)) from source)"
        )

    def search(self, query: str, k: int) -> list[int]:
        lexemes = "select string_agg(quote_literal(lexeme), ' | ') from unnest(to_tsvector(%s::regconfig, %s))"
        row = self.connection.execute(lexemes, (self.config, query)).fetchone()
        assert row is not None
        best = "select id from source, to_tsquery('simple', %s) q where v @@ q order by ts_rank(v, q) desc, id limit %s"
        return [found for (found,) in self.connection.execute(best, (row[0] or "", k))]


def gin_build(connection: Connection, config: str) -> float:
    """Return the seconds that a GIN index on to_tsvector(config, body) takes: what building is measured against.

    With PostgreSQL's own maintenance_work_mem, in which it is fastest: 45 to 48 s for a million documents, 56 to 67 in
    512 MB.
    """
    connection.execute("set maintenance_work_mem = '64MB'")
    begun = time.perf_counter()
    index = "create index source_expression on source using gin (to_tsvector({}, body))"
    connection.execute(sql.SQL(index).format(sql.Literal(config)))
    seconds = time.perf_counter() - begun
    connection.execute("drop index source_expression")
    connection.execute("reset maintenance_work_mem")
    return seconds


class PgTextsearch:
    """pg_textsearch, a C extension with block-max WAND."""

    def __init__(self, connection: Connection, config: str) -> None:
        self.connection, self.config = connection, config

    def build(self) -> float:
        self.connection.execute("create extension if not exists pg_textsearch")
        begun = time.perf_counter()
        index = "create index source_bm25 on source using bm25 (body) with (text_config = {}, k1 = 1.2, b = 0.75)"
        self.connection.execute(sql.SQL(index).format(sql.Literal(self.config)))
        return time.perf_counter() - begun

    def size(self) -> int:
        return _number(self.connection, "select pg_relation_size('source_bm25')")

    def search(self, query: str, k: int) -> list[int]:
        best = "select id from source order by body <@> to_bm25query(%s, 'source_bm25') limit %s"
        return [found for (found,) in self.connection.execute(best, (query, k))]


class RankBm25:
    """rank-bm25 in this process, over PostgreSQL's lexemes. Its scores are BM25Okapi's."""

    def __init__(self, connection: Connection, config: str) -> None:
        self.connection, self.config = connection, config

    def build(self) -> float:
        from rank_bm25 import BM25Okapi

        begun = time.perf_counter()
        words = "array(select lexeme from unnest(to_tsvector(%s::regconfig, body)) w, unnest(w.positions))"
        rows = self.connection.execute(f"select id, {words} from source order by id", (self.config,)).fetchall()
        self.ids = [number for number, _ in rows]
        self.index = BM25Okapi([lexemes for _, lexemes in rows])
        return time.perf_counter() - begun

    def size(self) -> int:
        return 0

    def search(self, query: str, k: int) -> list[int]:
        lexemes = "select tsvector_to_array(to_tsvector(%s::regconfig, %s))"
        row = self.connection.execute(lexemes, (self.config, query)).fetchone()
        assert row is not None
        scores = self.index.get_scores(row[0])
        return [self.ids[place] for place in (-scores).argsort(kind="stable")[:k]]


class NoVectors:
    """An encoder that is never asked: the lexical leg is measured alone."""

    name, fingerprint, dimensions, sparse_dimensions, max_tokens = "none", "none:1", 1, None, 1

    def encode_queries(self, texts: Any) -> Any:
        raise NotImplementedError

    encode_documents = encode_queries

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return []


def source_index(**options: Any) -> SearchIndex:
    """Declare an index on the table `source`."""

    class Base(DeclarativeBase):
        pass

    class Source(Base):
        __tablename__ = "source"

        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str]

    return SearchIndex(Source, ["body"], **options)


class Sql:
    """The lexical leg of this library, on the server."""

    def __init__(self, engine: Engine, connection: Connection, config: str) -> None:
        self.engine, self.connection, self.config = engine, connection, config
        self.index = source_index(encoder=NoVectors(), config=config)

    def build(self) -> float:
        begun = time.perf_counter()
        with self.engine.begin() as connection:
            migrate(connection)
            self.index.metadata.create_all(connection)
        with Session(self.engine) as session:
            prepare(session, self.index)
            while build(session, self.index):
                session.commit()
        seconds = time.perf_counter() - begun
        for table in self.index.tables:
            self.connection.execute(sql.SQL("vacuum analyze {}").format(sql.Identifier(table.name)))
        return seconds

    def add(self, session: Session, keys: list[int]) -> None:
        """Add rows, as indexing does, without their vectors."""
        documents = self.index.documents
        values = [{"source_id": key, "hash": b"", "length": 0.0, "terms": []} for key in keys]
        statement = insert(documents).returning(documents.c.id, sort_by_parameter_order=True)
        numbers = list(session.scalars(statement, values))
        add_documents(session, self.index, numbers)

    def size(self) -> int:
        names = [self.index.postings.name, self.index.terms.name, self.index.pending.name]
        return sum(_number(self.connection, f"select pg_total_relation_size('{name}')") for name in names)

    def word_of(self, share: float) -> str:
        """Return the word whose number of documents is nearest to a share of all."""
        nearest = """
            select t.term
            from (select term_id, sum(documents) as n from {} group by term_id) as p
            join {} as t on t.id = p.term_id
            order by abs(p.n - %s * (select documents from {})), t.term
            limit 1"""
        names = (self.index.postings.name, self.index.terms.name, self.index.statistics.name)
        statement = sql.SQL(nearest).format(*map(sql.Identifier, names))
        row = self.connection.execute(statement, (share,)).fetchone()
        assert row is not None
        return str(row[0])

    def forward_size(self) -> int:
        """Bytes of the documents' table: keys, hashes, lengths, and the terms that a removal needs."""
        return _number(self.connection, f"select pg_total_relation_size('{self.index.documents.name}')")

    def postings(self) -> int:
        return _number(self.connection, f"select sum(documents) from {self.index.postings.name}")

    def search(self, query: str, k: int) -> list[int]:
        statement, values = self._statement(k)
        values = {name: query if value == SENTINEL else value for name, value in values.items()}
        return [row[0] for row in self.connection.execute(statement, values)]

    @cache  # noqa: B019 - one system, a few k: what is measured is the server, as for the others
    def _statement(self, k: int) -> tuple[str, dict[str, Any]]:
        compiled = lexical(self.index, SENTINEL, candidates=k).compile(dialect=postgresql.psycopg.dialect())
        return str(compiled), dict(compiled.params)

    def drop(self) -> None:
        """Drop the tables, the documents' too."""
        self.index.metadata.drop_all(self.engine)


def _number(connection: Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])
