"""Declare a search index on a mapped class: its companion tables in the class's own MetaData.

    articles = SearchIndex(Article, fields={"title": 2.0, "body": 1.0}, encoder="minilm", config="english")
    articles.Chunk          # a mapped class over article_chunk: dense, sparse, text, document

Nothing is written to the model's table. The companions stand beside it, in its schema: see
`hybridsearch.companions`.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    MetaData,
    Table,
    and_,
    event,
    inspect,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import InstrumentedAttribute, Mapper, deferred, relationship

from hybridsearch.bm25 import BM25, EngineName, checked_engine
from hybridsearch.companions import HNSW, Companions
from hybridsearch.definition import Definition, qualified
from hybridsearch.encoders import Encoder, load_encoder
from hybridsearch.errors import DeclarationError
from hybridsearch.fields import config_of, type_of, weights_of
from hybridsearch.installed import installed_engine
from hybridsearch.routines import define, undefine
from hybridsearch.segmentation import Segmenter, checked_segmenter
from hybridsearch.storage import Kind, Storage
from hybridsearch.template import render

_INFO = "hybridsearch"  # the key in MetaData.info
_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
MAX_IDENTIFIER = 63  # bytes
MAX_NAME = 40  # bytes, so that every derived name stays below PostgreSQL's 63


class SearchIndex:
    """A search index over some columns of a mapped class.

    `fields` maps attribute names to weights (> 0); a weight counts a word of that field as so many words, in frequency
    and in length (BM25F). A plain sequence of names weighs each 1. `title` names the field whose text goes in front of
    every chunk. `template` makes the text that is encoded from the fields (`"{title}. Brand: {brand}."`, nulls left
    out with their label); without it they follow one another. `storage` keeps dense vectors as `halfvec`, `vector` or
    `bit`; `dimensions` keeps the first ones alone (Matryoshka models). `config` is a text search configuration,
    or a column that names each row's own ("german", "de"); rows that name none PostgreSQL knows have `default_config`.
    `engine` ranks by words: "sql", "memory", "pg_textsearch" or "auto" (docs/engines.md); "memory" takes a `segmenter`,
    which cuts Chinese into words (`hybridsearch.segmentation.jieba_words`). `name` is the prefix of the companion
    tables (the model's table by default): give one to put a second index on a model.

    Raises DeclarationError for what cannot be built.
    """

    def __init__(
        self,
        model: type[Any],
        fields: Mapping[str, float] | Iterable[str],
        *,
        encoder: str | Encoder = "bge-m3",
        config: str | InstrumentedAttribute[Any] = "english",
        default_config: str = "english",
        title: str | None = None,
        template: str | None = None,
        storage: Kind = "halfvec",
        dimensions: int | None = None,
        bm25: BM25 | None = None,
        engine: EngineName | Literal["auto"] = "sql",
        segmenter: Segmenter | None = None,
        hnsw: HNSW | None = None,
        name: str | None = None,
    ) -> None:
        self.model = model
        self.mapper = _mapper(model)
        self.table = _table(self.mapper)
        self.name = _name(self.table.name if name is None else name)
        self.fields = weights_of(self.mapper, fields)
        self.title = title
        if title is not None and title not in self.fields:
            raise DeclarationError(f'index "{self.name}": the title {title!r} is not one of the fields')
        self.template = template
        if template is not None:
            render(template, dict.fromkeys(self.fields, ""))
        self.config_column, self.config = config_of(self.mapper, config, default_config)
        self.query_config = self.config
        self.bm25 = bm25 or BM25()
        self.engine = _engine(self, engine)
        self.segmenter = checked_segmenter(self.name, self.engine, segmenter)
        self.hnsw = hnsw or HNSW()
        self.encoder = load_encoder(encoder) if isinstance(encoder, str) else encoder
        self.storage = _storage(self.name, self.encoder, storage, dimensions)
        self.keys = tuple(self.table.primary_key.columns)
        """The primary key of the model's table; the companions hold it as `<table>_<column>`."""
        _check_key_names(self.name, self.key_names)
        make = Companions(self.name, self.table)
        self.documents = make.documents()
        self.chunks = make.chunks(self.storage, self.encoder.sparse_dimensions, self.hnsw)
        if self.encoder.sparse_dimensions is not None:
            self.weights, self.pieces, self.unweighed = make.weights(), make.pieces(), make.unweighed()
        if self.engine == "sql":
            self.terms = make.terms()
            self.postings = make.postings()
            self.pending = make.pending()
            self.statistics = make.statistics()
        elif self.engine == "pg_textsearch":
            self.words = make.words(self.bm25.k1, self.bm25.b)
        self.changes = make.changes()
        self.queue = make.queue()
        _follow(self)

    @cached_property
    def definition(self) -> Definition:
        """What SQL has to know of the index: the migration makes its functions and triggers from it."""
        columns = {name: self.mapper.column_attrs[name].columns[0] for name in self.fields}
        return Definition(
            name=self.name,
            namespace=self.table.schema,
            table=self.table.name,
            keys={key.name: type_of(key, _dialect) for key in self.keys},
            fields={columns[name].name: weight for name, weight in self.fields.items()},
            config=self.config,
            config_column=None if self.config_column is None else self.config_column.name,
            k1=self.bm25.k1,
            b=self.bm25.b,
            idf=self.bm25.idf,
            epsilon=self.bm25.epsilon,
            storage=self.storage.kind,
            dimensions=self.storage.dimensions,
            sparse_dimensions=self.encoder.sparse_dimensions,
            engine=self.engine,
        )

    def asked_in(self, config: str) -> "SearchIndex":
        """Return the index as it is, with queries analysed by another configuration; its documents stay as they are."""
        _ = self.Chunk  # mapped once, for both
        other = copy(self)
        other.query_config = config
        return other

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
        """The companion tables: those of every index, those of its engine, and those of its encoder's term weights."""
        return (self.documents, self.chunks, *self.lexical_tables, *self.sparse_tables, self.changes, self.queue)

    @property
    def lexical_tables(self) -> tuple[Table, ...]:
        """The companion tables that the engine needs."""
        if self.engine == "sql":
            return (self.terms, self.postings, self.pending, self.statistics)
        return (self.words,) if self.engine == "pg_textsearch" else ()

    @property
    def sparse_tables(self) -> tuple[Table, ...]:
        """The companion tables that the sparse leg needs."""
        return () if self.encoder.sparse_dimensions is None else (self.weights, self.pieces, self.unweighed)

    @cached_property
    def Chunk(self) -> type[Any]:  # noqa: N802 - a class
        """The chunk table as a mapped class, with `document` as the way to the row of the model."""
        chunk = type(
            f"{self.model.__name__}Chunk", (), {"__doc__": f"A piece of a {self.model.__name__} with its vectors."}
        )
        chunk_keys = list(self.key_columns(self.chunks))
        self.mapper.registry.map_imperatively(
            chunk,
            self.chunks,
            properties={
                "document": relationship(
                    self.model, primaryjoin=self.same_row(self.chunks), foreign_keys=chunk_keys, viewonly=True
                ),
                "dense": deferred(self.chunks.c.dense),
            },
        )
        return chunk

    def __repr__(self) -> str:
        return f"SearchIndex({self.model.__name__}, {dict(self.fields)!r}, {self.encoder.name!r}, name={self.name!r})"


def declared(metadata: MetaData) -> dict[str, SearchIndex]:
    """Return the indexes declared on the models of a MetaData, by qualified name."""
    found: dict[str, SearchIndex] = metadata.info.get(_INFO, {})
    return found


def _follow(index: SearchIndex) -> None:
    """Let `metadata.create_all` make the index's routines with its tables, and `drop_all` drop them."""
    metadata = index.metadata
    metadata.info.setdefault(_INFO, {})[index.definition.qualified_name] = index

    def created(_: MetaData, connection: object, **options: Any) -> None:
        if isinstance(connection, Connection) and not set(index.tables).isdisjoint(options["tables"]):
            define(connection, index.definition)

    def dropped(_: MetaData, connection: object, **options: Any) -> None:
        if isinstance(connection, Connection) and not set(index.tables).isdisjoint(options["tables"]):
            undefine(connection, index.definition.qualified_name)

    event.listen(metadata, "after_create", created)
    event.listen(metadata, "before_drop", dropped)


def _engine(index: SearchIndex, engine: str) -> EngineName:
    if engine != "auto":
        return checked_engine(index.name, engine, index.bm25, index.fields)
    return installed_engine(qualified(index.name, index.table.schema), index.bm25, index.fields)


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
