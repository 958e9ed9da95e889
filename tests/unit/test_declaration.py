"""What a declaration becomes: the text of the companion tables' DDL, and the errors of what cannot be declared."""

import re
import uuid
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, configure_mappers, mapped_column
from sqlalchemy.schema import CreateIndex, CreateTable

from hybridsearch import BM25, HNSW, ConfigurationError, DeclarationError, SearchIndex
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles

DIALECT = postgresql.dialect()
INFINITY = float("inf")
NAN = float("nan")


def keyed(*keys: tuple[str, Any], table: str = "item", schema: str | None = None) -> type[Any]:
    """Return a model with the given key columns, a `title`, and a `body` that may be null."""

    class Base(DeclarativeBase):
        pass

    columns = {name: mapped_column(type_, primary_key=True) for name, type_ in keys}
    fields = {"title": mapped_column(Text, nullable=False), "body": mapped_column(Text, nullable=True)}
    place = {"__tablename__": table, "__table_args__": {"schema": schema}}
    return type("Item", (Base,), {**place, **columns, **fields})


def declare(model: type[Any], **options: Any) -> SearchIndex:
    return SearchIndex(model, options.pop("fields", ["title", "body"]), **{"encoder": WordHashEncoder()} | options)


def ddl(table: Table) -> str:
    statements = [CreateTable(table), *(CreateIndex(index) for index in sorted(table.indexes, key=str))]
    return "\n".join(re.sub(r"\s+", " ", str(statement.compile(dialect=DIALECT))) for statement in statements)


@pytest.mark.parametrize(
    ("type_", "written"),
    [(Integer(), "INTEGER"), (postgresql.UUID(), "UUID"), (String(30), "VARCHAR(30)"), (Text(), "TEXT")],
)
def test_the_key_column_has_the_type_of_the_models_key(type_: Any, written: str) -> None:
    index = declare(keyed(("id", type_)))
    for table in (index.documents, index.chunks):
        assert f"item_id {written} NOT NULL" in ddl(table)


def test_a_key_typed_by_its_annotation_is_carried_over() -> None:
    class Base(DeclarativeBase):
        pass

    class Ticket(Base):
        __tablename__ = "ticket"

        id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
        title: Mapped[str]

    assert "ticket_id UUID NOT NULL" in ddl(declare(Ticket, fields=["title"]).chunks)


def test_every_column_of_a_composite_key_is_carried_over_in_its_order() -> None:
    index = declare(keyed(("tenant", Text()), ("number", Integer())))
    assert index.key_names == ("item_tenant", "item_number")
    text = ddl(index.chunks)
    assert "item_tenant TEXT NOT NULL, item_number INTEGER NOT NULL" in text
    assert "UNIQUE (item_tenant, item_number, ordinal)" in text


def test_no_foreign_key_stands_in_the_way_of_the_models_table() -> None:
    """It could not be truncated, nor a partition detached; the triggers take the chunks away."""
    index = declare(keyed(("id", Integer())))
    assert not any("REFERENCES" in ddl(table) for table in index.tables)


def test_companions_stand_in_the_schema_of_the_models_table() -> None:
    index = declare(keyed(("id", Integer()), schema="store"))
    assert {str(table) for table in index.tables} >= {"store.item_document", "store.item_chunk"}
    assert all(table.schema == "store" for table in index.tables)


def test_companions_belong_to_the_metadata_of_the_model() -> None:
    model = keyed(("id", Integer()))
    index = declare(model)
    assert index.metadata is model.metadata
    assert set(index.tables) < set(model.metadata.tables.values())


def test_the_models_own_table_is_left_as_it_was() -> None:
    model = keyed(("id", Integer()))
    before = ddl(model.__table__)
    declare(model)
    assert ddl(model.__table__) == before


def test_the_vector_column_has_the_dimensions_of_the_encoder() -> None:
    index = declare(keyed(("id", Integer())), encoder=WordHashEncoder(dimensions=48))
    assert "dense HALFVEC(48) NOT NULL" in ddl(index.chunks)


def test_the_hnsw_index_has_its_parameters_and_the_cosine_operator_class() -> None:
    index = declare(keyed(("id", Integer())), hnsw=HNSW(m=24, ef_construction=96))
    assert (
        "CREATE INDEX item_chunk_dense_idx ON item_chunk USING hnsw (dense halfvec_cosine_ops) "
        "WITH (m = 24, ef_construction = 96)"
    ) in ddl(index.chunks)


def test_a_sparse_column_is_there_where_the_encoder_has_a_sparse_head() -> None:
    encoder = WordHashEncoder()
    encoder.sparse_dimensions = 250_002
    assert "sparse SPARSEVEC(250002)" in ddl(declare(keyed(("id", Integer())), encoder=encoder).chunks)


def test_no_sparse_column_is_there_where_it_has_none() -> None:
    assert "sparse" not in ddl(declare(keyed(("id", Integer()))).chunks)


def test_a_sequence_of_fields_weighs_each_1() -> None:
    assert declare(keyed(("id", Integer())), fields=("body", "title")).fields == {"body": 1.0, "title": 1.0}


def test_a_name_puts_a_second_index_on_a_model() -> None:
    model = keyed(("id", Integer()))
    first, second = declare(model), declare(model, name="other")
    assert second.chunks.name == "other_chunk"
    assert not set(first.tables) & set(second.tables)
    configure_mappers()


def test_a_chunk_is_a_mapped_class_with_its_document() -> None:
    declared = articles()
    chunk = declared.index.Chunk
    assert chunk is declared.index.Chunk
    configure_mappers()
    assert chunk.document.property.mapper.class_ is declared.Article
    assert {"dense", "text", "ordinal", "article_id"} <= set(chunk.__mapper__.attrs.keys())


@pytest.mark.parametrize("weight", [0, -1.0, NAN, INFINITY, -INFINITY, "2", None])
def test_a_weight_is_a_positive_number(weight: Any) -> None:
    with pytest.raises(DeclarationError, match=r"Item\.title: weight .* is not a positive number"):
        declare(keyed(("id", Integer())), fields={"title": weight})


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DeclarationError, match="Item has no column attribute 'text'; it has body, id, title"):
        declare(keyed(("id", Integer())), fields=["title", "text"])


def test_one_string_is_no_sequence_of_fields() -> None:
    with pytest.raises(DeclarationError, match="fields is the string 'title'"):
        declare(keyed(("id", Integer())), fields="title")


@pytest.mark.parametrize("nothing", [[], {}])
def test_an_index_needs_a_field(nothing: Any) -> None:
    with pytest.raises(DeclarationError, match="at least one field"):
        declare(keyed(("id", Integer())), fields=nothing)


def test_a_field_of_a_parents_table_is_refused() -> None:
    class Base(DeclarativeBase):
        pass

    class Page(Base):
        __tablename__ = "page"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]

    class Recipe(Page):
        __tablename__ = "recipe"

        id: Mapped[int] = mapped_column(ForeignKey("page.id"), primary_key=True)
        method: Mapped[str]

    with pytest.raises(DeclarationError, match=r'Recipe\.title is a column of "page"'):
        declare(Recipe, fields=["title", "method"])


def test_the_title_is_one_of_the_fields() -> None:
    with pytest.raises(DeclarationError, match="the title 'title' is not one of the fields"):
        declare(keyed(("id", Integer())), fields=["body"], title="title")


@pytest.mark.parametrize("thing", [dict, int])
def test_a_class_that_is_not_mapped_is_refused(thing: type[Any]) -> None:
    with pytest.raises(DeclarationError, match="is not a mapped class"):
        declare(thing)


def test_a_table_without_a_primary_key_is_refused() -> None:
    class Base(DeclarativeBase):
        pass

    # SQLAlchemy maps it by columns that the mapper is told of; the table itself has no key to refer to.
    log = Table("log", MetaData(), Column("at", Integer), Column("line", Text))
    model = type("Log", (Base,), {"__table__": log, "__mapper_args__": {"primary_key": [log.c.at]}})
    with pytest.raises(DeclarationError, match="Log has no table with a primary key"):
        declare(model, fields=["line"])


@pytest.mark.parametrize("name", ["", "x" * 41, "é" * 21])
def test_a_name_is_1_to_40_bytes(name: str) -> None:
    with pytest.raises(DeclarationError, match="give a name= of 1 to 40"):
        declare(keyed(("id", Integer())), name=name)


def test_a_long_table_name_needs_a_short_index_name() -> None:
    model = keyed(("id", Integer()), table="t" * 50)
    with pytest.raises(DeclarationError, match="has 50 bytes: give a name="):
        declare(model)
    assert declare(model, name="short").chunks.name == "short_chunk"


def test_a_key_column_that_postgresql_would_cut_is_refused() -> None:
    with pytest.raises(DeclarationError, match="would have 66 bytes, PostgreSQL takes 63"):
        declare(keyed(("k" * 25, Integer()), table="t" * 40))


def test_a_second_index_without_a_name_of_its_own_is_refused() -> None:
    model = keyed(("id", Integer()))
    declare(model)
    with pytest.raises(DeclarationError, match='table "item_document" is declared already: give the index another'):
        declare(model)


@pytest.mark.parametrize("dimensions", [0, -1, 4001])
def test_an_encoder_has_1_to_4000_dimensions(dimensions: int) -> None:
    with pytest.raises(DeclarationError, match=f'"word-hash": {dimensions} dimensions: .* 1 to 4000'):
        declare(keyed(("id", Integer())), encoder=WordHashEncoder(dimensions=dimensions))


def test_an_encoder_of_4000_dimensions_is_taken() -> None:
    index = declare(keyed(("id", Integer())), encoder=WordHashEncoder(dimensions=4000))
    assert "HALFVEC(4000)" in ddl(index.chunks)


def test_an_unknown_encoder_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="minilm"):
        declare(keyed(("id", Integer())), encoder="no-such-model")


@pytest.mark.parametrize(
    "given", [{"m": 1}, {"m": 101}, {"ef_construction": 31}, {"ef_construction": 1001}, {"m": 40}, {"m": 0}]
)
def test_hnsw_parameters_are_in_pgvectors_range(given: dict[str, int]) -> None:
    with pytest.raises(DeclarationError, match=r"HNSW (m|ef_construction) is .*: give"):
        HNSW(**given)


@pytest.mark.parametrize("given", [{"m": 2}, {"m": 100, "ef_construction": 200}, {"ef_construction": 1000}])
def test_hnsw_parameters_at_the_ends_of_the_range_are_taken(given: dict[str, int]) -> None:
    assert HNSW(**given)


@pytest.mark.parametrize("given", [{"k1": -0.1}, {"k1": NAN}, {"k1": INFINITY}, {"b": -0.1}, {"b": 1.1}, {"b": NAN}])
def test_bm25_parameters_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(DeclarationError, match=r"BM25 (k1|b) is .*: give a number from 0"):
        BM25(**given)


def test_the_definition_has_the_types_of_keys_without_their_collation() -> None:
    index = declare(keyed(("id", Text(collation="C")), ("code", String(30))))
    assert index.definition.keys == {"id": "TEXT", "code": "VARCHAR(30)"}
