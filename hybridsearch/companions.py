"""The tables beside the model's own: what a search index keeps, as SQLAlchemy tables in the model's MetaData.

    <name>_document    one row a document: its number in the postings, a hash of its content, its length, its terms
    <name>_chunk       pieces of documents, each with its vectors, under an HNSW index
    <name>_term        the dictionary of the lexical index
    <name>_posting     the lexical index: rows of postings
    <name>_pending     documents, and removals of documents, that are not yet merged into the postings
    <name>_statistics  one row: number and length of the merged documents
    <name>_word        the words of each document as a text, under a bm25 index of pg_textsearch
    <name>_weight      the index of the encoder's term weights: rows of postings
    <name>_piece       the chunks by their numbers in these postings
    <name>_unweighed   chunks that are not yet merged into them
    <name>_change      what the triggers write: keys of rows that changed, and whose words are not indexed yet
    <name>_queue       documents whose words are indexed, and which wait for their vectors

The first two and the last two belong to every index, see docs/freshness.md; the next four to the engine sql, `_word` to
the engine pg_textsearch, the next three to encoders with a sparse head. docs/sparse-engine.md has the formats.
"""

from dataclasses import dataclass
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import (
    DOUBLE_PRECISION,
    REAL,
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from hybridsearch.errors import DeclarationError
from hybridsearch.storage import Storage

RANGE = 16_000  # documents: the most dimensions of a vector


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
class Companions:
    """Makes the companion tables of an index called `name` on `table`; each method declares one."""

    name: str
    table: Table

    @property
    def keys(self) -> tuple[Column[Any], ...]:
        """The primary key of the model's table."""
        return tuple(self.table.primary_key.columns)

    @property
    def key_names(self) -> tuple[str, ...]:
        """What the same columns are called in the companions."""
        return tuple(f"{self.table.name}_{key.name}" for key in self.keys)

    def _new_keys(self) -> list[Column[Any]]:
        return [Column(name, key.type, nullable=False) for name, key in zip(self.key_names, self.keys, strict=True)]

    def _companion(self, part: str, *items: Any, **options: Any) -> Table:
        name = f"{self.name}_{part}"
        full = name if self.table.schema is None else f"{self.table.schema}.{name}"
        if full in self.table.metadata.tables:
            raise DeclarationError(f'table "{full}" is declared already: give the index another name=')
        return Table(name, self.table.metadata, *items, schema=self.table.schema, **options)

    def documents(self) -> Table:
        """One row a document."""
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
            Column("terms", ARRAY(Integer), nullable=False, comment="Its terms, which a removal needs"),
            Column(
                "encoded_at",
                DateTime(timezone=True),
                comment="When the vectors of this content were written; null: not yet",
            ),
            PrimaryKeyConstraint("id", name=f"{self.name}_document_pkey"),
            UniqueConstraint(*self.key_names, name=f"{self.name}_document_key"),
            # Rows come to their end of the table when they are encoded: a few pages tell what was encoded lately.
            Index(f"{self.name}_document_encoded_idx", "encoded_at", postgresql_using="brin"),
        )

    def chunks(self, storage: Storage, sparse_dimensions: int | None, hnsw: HNSW) -> Table:
        """Pieces of documents with their vectors."""
        # No foreign key: it would forbid TRUNCATE, DETACH PARTITION and a changed key on the model's table.
        vectors: list[Column[Any]] = []
        if storage.bits is not None:
            vectors.append(Column("bits", storage.bits, nullable=False, comment="The signs of the dense vector"))
        if sparse_dimensions is not None:
            kind = SPARSEVEC(sparse_dimensions)
            vectors.append(Column("sparse", kind, comment="The encoder's term weights"))
        indexed, operators = storage.indexed
        return self._companion(
            "chunk",
            Column("id", BigInteger, Identity(), nullable=False),
            *self._new_keys(),
            Column("ordinal", Integer, nullable=False, comment="Its place in the document, from 0"),
            Column("start", Integer, nullable=False, comment="Where it begins in the document's text, in characters"),
            Column("stop", Integer, nullable=False, comment="Where it ends"),
            Column("text", Text, nullable=False, comment="What was encoded"),
            Column("dense", storage.type, nullable=False, comment="The encoder's dense vector"),
            *vectors,
            PrimaryKeyConstraint("id", name=f"{self.name}_chunk_pkey"),
            UniqueConstraint(*self.key_names, "ordinal", name=f"{self.name}_chunk_key"),
            Index(
                f"{self.name}_chunk_dense_idx",
                indexed,
                postgresql_using="hnsw",
                postgresql_with={"m": hnsw.m, "ef_construction": hnsw.ef_construction},
                postgresql_ops={indexed: operators},
            ),
        )

    def terms(self) -> Table:
        """The dictionary."""
        return self._companion(
            "term",
            Column("id", Integer, Identity(), nullable=False),
            Column("term", Text(collation="C"), nullable=False),
            PrimaryKeyConstraint("id", name=f"{self.name}_term_pkey"),
            UniqueConstraint("term", name=f"{self.name}_term_key"),
        )

    def postings(self) -> Table:
        """The postings, by term and place."""
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
            # A row of a range that does not fit is cut so that two rows fill a page.
            postgresql_with={"toast_tuple_target": 4080, "autovacuum_vacuum_scale_factor": 0.05},
        )

    def pending(self) -> Table:
        """What is not merged yet."""
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
            # Rows come and go; every query reads the table, and what is dead in it.
            postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
        )

    def statistics(self) -> Table:
        """One row."""
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

    def words(self, k1: float, b: float) -> Table:
        """The words of each document as a text that pg_textsearch takes as it is."""
        return self._companion(
            "word",
            Column("document", Integer, autoincrement=False, nullable=False),
            Column("content", Text, nullable=False, comment="Its terms, each as one word, as often as it occurs"),
            PrimaryKeyConstraint("document", name=f"{self.name}_word_pkey"),
            Index(
                f"{self.name}_word_bm25",
                "content",
                postgresql_using="bm25",
                postgresql_with={"text_config": "simple", "k1": k1, "b": b},
            ),
        )

    def weights(self) -> Table:
        """The postings of the encoder's term weights, by token and place."""
        return self._companion(
            "weight",
            Column("token", Integer, nullable=False, comment="Element of the sparsevec, from 1"),
            Column("place", Integer, nullable=False, comment="A range (from 0) or a span (-1 - span)"),
            Column("pieces", Integer, nullable=False, comment="How many postings"),
            Column("top", REAL, nullable=False, comment="No weight of the row is higher"),
            Column("codes", ARRAY(Integer), comment="Span: piece and weight, rounded up, in one number"),
            Column("weights", SPARSEVEC(RANGE), comment="Range: the weight of each piece"),
            PrimaryKeyConstraint("token", "place", name=f"{self.name}_weight_pkey"),
            postgresql_with={"toast_tuple_target": 4080, "autovacuum_vacuum_scale_factor": 0.05},
        )

    def pieces(self) -> Table:
        """The chunks that are merged into these postings."""
        return self._companion(
            "piece",
            Column("number", Integer, Identity(), nullable=False, comment="Its number in the postings"),
            Column("chunk", BigInteger, nullable=False),
            PrimaryKeyConstraint("number", name=f"{self.name}_piece_pkey"),
        )

    def unweighed(self) -> Table:
        """The chunks that are not merged yet."""
        return self._companion(
            "unweighed",
            Column("chunk", BigInteger, autoincrement=False, nullable=False),
            PrimaryKeyConstraint("chunk", name=f"{self.name}_unweighed_pkey"),
            # Rows come and go; every query reads the table, and what is dead in it.
            postgresql_with={"autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
        )

    def changes(self) -> Table:
        """What the triggers write, one row a statement: an array of keys costs a writer a tenth of a row a key."""
        arrays: list[Column[Any]] = [
            Column(name, ARRAY(key.type), nullable=False) for name, key in zip(self.key_names, self.keys, strict=True)
        ]
        return self._companion(
            "change",
            Column("id", BigInteger, Identity(), nullable=False),
            *arrays,
            Column("queued_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
            PrimaryKeyConstraint("id", name=f"{self.name}_change_pkey"),
        )

    def queue(self) -> Table:
        """Documents that wait for their vectors."""
        now = func.clock_timestamp()
        return self._companion(
            "queue",
            *self._new_keys(),
            Column(
                "queued_at", DateTime(timezone=True), nullable=False, server_default=now, comment="When its row changed"
            ),
            Column(
                "next_at",
                DateTime(timezone=True),
                nullable=False,
                server_default=now,
                comment="When it may be taken: the end of a claim, or of the wait after an error",
            ),
            Column("attempts", Integer, nullable=False, server_default="0", comment="How often it was taken"),
            Column("claimed_by", Integer, comment="The worker that has it"),
            Column("error", Text, comment="Of the last attempt"),
            Column("failed_at", DateTime(timezone=True), comment="When it was set aside"),
            PrimaryKeyConstraint(*self.key_names, name=f"{self.name}_queue_pkey"),
            Index(f"{self.name}_queue_next_idx", "next_at", postgresql_where=text("failed_at is null")),
            Index(f"{self.name}_queue_claimed_idx", "claimed_by", postgresql_where=text("claimed_by is not null")),
        )
