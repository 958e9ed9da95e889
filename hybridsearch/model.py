"""Declare a search index on a mapped class: its companion tables in the class's own MetaData.

    articles = SearchIndex(Article, fields={"title": 2.0, "body": 1.0}, encoder="minilm", config="english")
    articles.Chunk          # a mapped class over article_chunk: dense, sparse, text, document

Nothing is written to the model's table. The companions stand beside it, in its schema:

    <name>_document    one row a document: its number in the postings, a hash of its content, its length, its terms
    <name>_chunk       pieces of documents, each with its vectors, under an HNSW index
    <name>_term        the dictionary of the lexical index
    <name>_posting     the lexical index: rows of postings
    <name>_pending     documents, and removals of documents, that are not yet merged into the postings
    <name>_statistics  one row: number and length of the merged documents

docs/sparse-engine.md has the format of the last three.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import (
    DOUBLE_PRECISION,
    REAL,
    BigInteger,
    Column,
    ColumnElement,
    ForeignKeyConstraint,
    FromClause,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    and_,
    inspect,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper, deferred, relationship

from hybridsearch.encoders import Encoder, load_encoder
from hybridsearch.errors import DeclarationError
from hybridsearch.storage import Kind, Storage
from hybridsearch.template import render

MAX_IDENTIFIER = 63  # bytes
RANGE = 16_000  # documents: the most dimensions of a vector
MAX_NAME = 40  # bytes, so that every derived name stays below PostgreSQL's 63


@dataclass(frozen=True)
class HNSW:
    """Build settings of the HNSW index: links a node (`m`, 2 to 100), build list (`ef_construction`, 2 m to 1000)."""

    m: int = 16
    ef_construction: int = 64

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 100:
            raise DeclarationError(f"HNSW m is {self.m}: give a number from 2 to 100")
        if not 2 * self.m <= self.ef_construction <= 1000:
            raise DeclarationError(f"HNSW ef_construction is {self.ef_construction}: give {2 * self.m} (2 m) to 1000")


@dataclass(frozen=True)
class BM25:
    """Parameters of BM25: saturation of term frequency (`k1`, from 0) and length normalisation (`b`, 0 to 1).

    The formula is Lucene's: sum over the query's terms of
    idf · tf · (k1 + 1) / (tf + k1 (1 - b + b · length / average)), with
    idf = ln(1 + (N - n + 0.5) / (n + 0.5)) for a term in n of N documents (Robertson & Zaragoza, 2009).
    """

    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < float("inf"):
            raise DeclarationError(f"BM25 k1 is {self.k1}: give a number from 0 up")
        if not 0 <= self.b <= 1:
            raise DeclarationError(f"BM25 b is {self.b}: give a number from 0 to 1")


class SearchIndex:
    """A search index over some columns of a mapped class.

    `fields` maps attribute names to weights (> 0); a weight counts a word of that field as so many words, in frequency
    and in length (BM25F). A plain sequence of names weighs each 1. `title` names the field whose text goes in front of
    every chunk. `template` makes the text that is encoded from the fields (`"{title}. Brand: {brand}."`, nulls left
    out with their label); without it they follow one another. `storage` keeps dense vectors as `halfvec`, `vector` or
    `bit`; `dimensions` keeps the first ones alone (Matryoshka models). `config` is a text search configuration. `name`
    is the prefix of the companion tables (the model's table by default): give one to put a second index on a model.

    Raises DeclarationError for what cannot be built.
    """

    def __init__(
        self,
        model: type[Any],
        fields: Mapping[str, float] | Iterable[str],
        *,
        encoder: str | Encoder = "bge-m3",
        config: str = "english",
        title: str | None = None,
        template: str | None = None,
        storage: Kind = "halfvec",
        dimensions: int | None = None,
        bm25: BM25 | None = None,
        hnsw: HNSW | None = None,
        name: str | None = None,
    ) -> None:
        self.model = model
        self.mapper = _mapper(model)
        self.table = _table(self.mapper)
        self.name = _name(self.table.name if name is None else name)
        self.fields = _weights(self.mapper, fields)
        self.title = title
        if title is not None and title not in self.fields:
            raise DeclarationError(f'index "{self.name}": the title {title!r} is not one of the fields')
        self.template = template
        if template is not None:
            render(template, dict.fromkeys(self.fields, ""))
        self.config = config
        self.bm25 = bm25 or BM25()
        self.hnsw = hnsw or HNSW()
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
        self.storage = _storage(self.name, self.encoder, storage, dimensions)
        self.keys = tuple(self.table.primary_key.columns)
        """The primary key of the model's table; the companions hold it as `<table>_<column>`."""
        _check_key_names(self.name, self.key_names)
        self.documents = self._documents()
        self.chunks = self._chunks()
        self.terms = self._terms()
        self.postings = self._postings()
        self.pending = self._pending()
        self.statistics = self._statistics()

    @property
    def metadata(self) -> MetaData:
        """The MetaData of the model, which the companion tables belong to as well."""
        return self.table.metadata

    @property
    def legs(self) -> tuple[str, ...]:
        """The legs that can be searched: sparse only where the encoder has a sparse head."""
        return ("dense", "lexical") if self.encoder.sparse_dimensions is None else ("dense", "sparse", "lexical")

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key columns in the companion tables, in the order of the primary key."""
        return tuple(f"{self.table.name}_{key.name}" for key in self.keys)

    def key_columns(self, table: Table) -> tuple[Column[Any], ...]:
        """Return the key columns of a companion table."""
        return tuple(table.c[name] for name in self.key_names)

    def same_row(self, companion: FromClause) -> ColumnElement[bool]:
        """Return the condition that a row of a companion table belongs to a row of the model's table."""
        return and_(*(key == companion.c[name] for key, name in zip(self.keys, self.key_names, strict=True)))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The companion tables."""
        return (self.documents, self.chunks, self.terms, self.postings, self.pending, self.statistics)

    @cached_property
    def Chunk(self) -> type[Any]:  # noqa: N802 - a class
        """The chunk table as a mapped class, with `document` as the way to the row of the model."""
        chunk = type(
            f"{self.model.__name__}Chunk", (), {"__doc__": f"A piece of a {self.model.__name__} with its vectors."}
        )
        self.mapper.registry.map_imperatively(
            chunk,
            self.chunks,
            properties={
                "document": relationship(self.model, viewonly=True),
                "dense": deferred(self.chunks.c.dense),
            },
        )
        return chunk

    def __repr__(self) -> str:
        return f"SearchIndex({self.model.__name__}, {dict(self.fields)!r}, {self.encoder.name!r}, name={self.name!r})"

    def _new_keys(self) -> list[Column[Any]]:
        return [Column(name, key.type, nullable=False) for name, key in zip(self.key_names, self.keys, strict=True)]

    def _companion(self, part: str, *items: Any) -> Table:
        name = f"{self.name}_{part}"
        full = name if self.table.schema is None else f"{self.table.schema}.{name}"
        if full in self.metadata.tables:
            raise DeclarationError(f'table "{full}" is declared already: give the index another name=')
        return Table(name, self.metadata, *items, schema=self.table.schema)

    def _documents(self) -> Table:
        # No foreign key: a deleted row's number is still needed to take its postings out.
        return self._companion(
            "document",
            Column(
                "id",
                Integer,
                Identity(),
                nullable=False,
                comment="Its number in the postings; a new content gets a new one",
            ),
            *self._new_keys(),
            Column("hash", LargeBinary, nullable=False, comment="Of its fields and of how they are indexed"),
            Column("length", REAL, nullable=False, comment="Weighted number of words"),
            Column("terms", ARRAY(Integer), nullable=False, comment="Its terms, which a removal needs, ascending"),
            PrimaryKeyConstraint("id", name=f"{self.name}_document_pkey"),
            UniqueConstraint(*self.key_names, name=f"{self.name}_document_key"),
        )

    def _chunks(self) -> Table:
        vectors: list[Column[Any]] = []
        if self.storage.bits is not None:
            vectors.append(Column("bits", self.storage.bits, nullable=False, comment="The signs of the dense vector"))
        if self.encoder.sparse_dimensions is not None:
            kind = SPARSEVEC(self.encoder.sparse_dimensions)
            vectors.append(Column("sparse", kind, comment="The encoder's term weights"))
        indexed, operators = self.storage.indexed
        return self._companion(
            "chunk",
            Column("id", BigInteger, Identity(), nullable=False),
            *self._new_keys(),
            Column("ordinal", Integer, nullable=False, comment="Its place in the document, from 0"),
            Column("start", Integer, nullable=False, comment="Where it begins in the document's text, in characters"),
            Column("stop", Integer, nullable=False, comment="Where it ends"),
            Column("text", Text, nullable=False, comment="What was encoded"),
            Column("dense", self.storage.type, nullable=False, comment="The encoder's dense vector"),
            *vectors,
            PrimaryKeyConstraint("id", name=f"{self.name}_chunk_pkey"),
            UniqueConstraint(*self.key_names, "ordinal", name=f"{self.name}_chunk_key"),
            ForeignKeyConstraint(
                self.key_names, self.keys, ondelete="CASCADE", name=f"{self.name}_chunk_document_fkey"
            ),
            Index(
                f"{self.name}_chunk_dense_idx",
                indexed,
                postgresql_using="hnsw",
                postgresql_with={"m": self.hnsw.m, "ef_construction": self.hnsw.ef_construction},
                postgresql_ops={indexed: operators},
            ),
        )

    def _terms(self) -> Table:
        return self._companion(
            "term",
            Column("id", Integer, Identity(), nullable=False),
            Column("term", Text(collation="C"), nullable=False),
            PrimaryKeyConstraint("id", name=f"{self.name}_term_pkey"),
            UniqueConstraint("term", name=f"{self.name}_term_key"),
        )

    def _postings(self) -> Table:
        return self._companion(
            "posting",
            Column("term_id", Integer, nullable=False),
            Column(
                "place", Integer, nullable=False, comment="A range (from 0), a span (-1 - span), or removals (lowest)"
            ),
            Column("documents", Integer, nullable=False, comment="How many postings; below 0 for removals"),
            Column("idf", REAL, comment="Range: what its weights were multiplied by"),
            Column("codes", ARRAY(Integer), comment="Span: document and rounded weight in one number, ascending"),
            Column("frequencies", ARRAY(REAL), comment="Span: weighted occurrences, where the code does not give them"),
            Column("weights", SPARSEVEC(RANGE), comment="Range: the weight of each document"),
            PrimaryKeyConstraint("term_id", "place", name=f"{self.name}_posting_pkey"),
        )

    def _pending(self) -> Table:
        return self._companion(
            "pending",
            Column("document", Integer, nullable=False),
            Column(
                "sign", SmallInteger, nullable=False, comment="1 for a new document, -1 for the removal of a merged one"
            ),
            Column("length", REAL, nullable=False, comment="Weighted number of words"),
            Column("terms", ARRAY(Integer), nullable=False, comment="Its terms, ascending"),
            Column(
                "frequencies", ARRAY(REAL), nullable=False, comment="Weighted occurrences of each; none for a removal"
            ),
            PrimaryKeyConstraint("document", "sign", name=f"{self.name}_pending_pkey"),
        )

    def _statistics(self) -> Table:
        return self._companion(
            "statistics",
            Column("id", SmallInteger, autoincrement=False, nullable=False, comment="Always 1: there is one row"),
            Column("documents", BigInteger, nullable=False, comment="How many are merged"),
            Column("length", DOUBLE_PRECISION, nullable=False, comment="Of the merged documents together"),
            Column(
                "average",
                DOUBLE_PRECISION,
                nullable=False,
                comment="The average length that the weights were made with",
            ),
            Column("k1", DOUBLE_PRECISION, nullable=False, comment="The k1 that the weights were made with"),
            Column("b", DOUBLE_PRECISION, nullable=False, comment="The b that the weights were made with"),
            PrimaryKeyConstraint("id", name=f"{self.name}_statistics_pkey"),
        )


def _storage(name: str, encoder: Encoder, kind: Kind, dimensions: int | None) -> Storage:
    made = encoder.dimensions
    if dimensions is not None and dimensions > made:
        raise DeclarationError(f'index "{name}": encoder "{encoder.name}" makes {made} dimensions, not {dimensions}')
    try:
        return Storage(kind, made if dimensions is None else dimensions)
    except DeclarationError as error:
        raise DeclarationError(f'index "{name}", encoder "{encoder.name}": {error}') from error


def _mapper(model: type[Any]) -> Mapper[Any]:
    try:
        mapper: Mapper[Any] = inspect(model)
    except NoInspectionAvailable as error:
        raise DeclarationError(f"{model!r} is not a mapped class: declare the index on a SQLAlchemy model") from error
    return mapper


def _table(mapper: Mapper[Any]) -> Table:
    table = mapper.local_table
    if not isinstance(table, Table) or not table.primary_key.columns:
        raise DeclarationError(
            f"{mapper.class_.__name__} has no table with a primary key: an index needs one to name its rows"
        )
    return table


def _name(name: str) -> str:
    if not name or len(name.encode()) > MAX_NAME:
        raise DeclarationError(f"index name {name!r} has {len(name.encode())} bytes: give a name= of 1 to {MAX_NAME}")
    return name


def _check_key_names(index: str, names: Iterable[str]) -> None:
    for name in names:
        if len(name.encode()) > MAX_IDENTIFIER:
            raise DeclarationError(
                f'index "{index}": the key column "{name}" of its tables would have {len(name.encode())} bytes, '
                f"PostgreSQL takes {MAX_IDENTIFIER}: shorten the name of the table or of its key"
            )


def _weights(mapper: Mapper[Any], fields: Mapping[str, float] | Iterable[str]) -> Mapping[str, float]:
    if isinstance(fields, str):
        raise DeclarationError(f"fields is the string {fields!r}: give a mapping or a sequence of names")
    weights = dict(fields) if isinstance(fields, Mapping) else dict.fromkeys(fields, 1.0)
    if not weights:
        raise DeclarationError(f"{mapper.class_.__name__}: an index needs at least one field")
    for name, weight in weights.items():
        _check_field(mapper, name)
        if not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise DeclarationError(f"{mapper.class_.__name__}.{name}: weight {weight!r} is not a positive number")
    return {name: float(weight) for name, weight in weights.items()}


def _check_field(mapper: Mapper[Any], name: str) -> None:
    model = mapper.class_.__name__
    if name not in mapper.column_attrs:
        known = ", ".join(sorted(mapper.column_attrs.keys()))
        raise DeclarationError(f"{model} has no column attribute {name!r}; it has {known}")
    column = mapper.column_attrs[name].columns[0]
    if isinstance(column, Column) and column.table is not mapper.local_table:
        raise DeclarationError(
            f'{model}.{name} is a column of "{column.table.name}": an index covers one table, '
            f"declare it on the class of that table"
        )
