"""The routines of an index: made with its tables, made again at a release, dropped with it."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import URL, Connection, Engine, MetaData, Text, create_engine, text
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column

from hybridsearch import HNSW, DeclarationError, SchemaMissing, SearchIndex, definition
from hybridsearch.alembic import autogenerate_options
from hybridsearch.routines import stored, undefine
from hybridsearch.schema import migrate, pending
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles

WEIGHTS = """
create or replace function {{fn:weights}}(note text)
returns text
language sql stable
set search_path from current
as $$
    select {{name}} || ' ' || array[{{field_weights}}]::text || ' ' || count(*) || note
    from {{table}} as m
    where ({{keys:m}}) is not null
$$;
"""
CHANGED = """
create or replace function {{fn:changed}}()
returns trigger
language plpgsql
set search_path from current
as 'begin return null; end';
create or replace trigger {{trigger:changed}}
after insert on {{table}}
for each statement execute function {{fn:changed}}();
"""
TEMPLATE = WEIGHTS + CHANGED


@pytest.fixture(autouse=True)
def routine_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One template, in a folder that a test can change, in place of those of the release."""
    path = tmp_path / "index" / "weights.sql"
    path.parent.mkdir()
    path.write_text(TEMPLATE)
    monkeypatch.setattr(definition, "FUNCTIONS", tmp_path)
    return path


def weights(engine: Engine, function: str = "article_weights") -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text(f"select {function}('!')")))


def routines(engine: Engine) -> list[str]:
    """Our functions and triggers outside our own schema."""
    with engine.connect() as connection:
        found = connection.scalars(
            text("""
                select proname from pg_proc join pg_namespace as n on n.oid = pronamespace
                where proname ~ '_(weights|changed)$' and nspname not in ('pg_catalog', 'hybridsearch')
                union all
                select tgname from pg_trigger where not tgisinternal
                order by 1""")
        )
        return list(found)


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    made = articles(fields={"title": 2.0, "body": 1.0})
    made.Base.metadata.create_all(engine)
    return made


def context_of(connection: Connection, metadata: MetaData) -> MigrationContext:
    return MigrationContext.configure(connection, opts={**autogenerate_options(), "target_metadata": metadata})


def test_create_all_makes_the_routines_and_drop_all_drops_them(engine: Engine, shop: SimpleNamespace) -> None:
    assert weights(engine) == "article {2.0,1.0} 0!"
    assert routines(engine) == ["article_changed", "article_changed", "article_weights"]
    shop.Base.metadata.drop_all(engine)
    assert routines(engine) == []
    shop.Base.metadata.create_all(engine)
    assert weights(engine) == "article {2.0,1.0} 0!"


def test_a_release_with_another_template_makes_them_again_and_drops_what_it_has_no_more(
    engine: Engine, shop: SimpleNamespace, routine_file: Path
) -> None:
    routine_file.write_text(WEIGHTS.replace("note text", "note varchar"))
    with engine.begin() as connection:
        assert pending(connection) == ["routines of article"]
        assert migrate(connection) == ["routines of article"]
        assert (pending(connection), migrate(connection)) == ([], [])
    assert routines(engine) == ["article_weights"]
    assert weights(engine) == "article {2.0,1.0} 0!"


def test_what_was_dropped_by_hand_comes_back(engine: Engine, shop: SimpleNamespace) -> None:
    with engine.begin() as connection:
        connection.execute(text("drop trigger article_changed on article"))
        connection.execute(text("drop table article_pending"))
    shop.Base.metadata.create_all(engine)
    assert routines(engine) == ["article_changed", "article_changed", "article_weights"]


def test_an_index_whose_table_is_gone_is_forgotten(engine: Engine, shop: SimpleNamespace, routine_file: Path) -> None:
    routine_file.write_text(TEMPLATE + "-- another release")
    with engine.begin() as connection:
        connection.execute(text("drop table article cascade"))
        assert migrate(connection) == []
        assert stored(connection) == {}
    assert routines(engine) == []


def test_autogenerate_follows_the_declaration_and_back(engine: Engine, shop: SimpleNamespace) -> None:
    other = articles(fields={"title": 3.0})
    with engine.connect() as connection:
        context = context_of(connection, other.Base.metadata)
        found = produce_migrations(context, other.Base.metadata)
        assert render_python_code(found.upgrade_ops).count("op.define_search_index({") == 1
        assert "'fields': {'title': 3.0}" in render_python_code(found.upgrade_ops)
        for operations, seen in ((found.upgrade_ops, "{3.0}"), (found.downgrade_ops, "{2.0,1.0}")):
            assert operations is not None
            for operation in operations.ops:
                Operations(context).invoke(operation)
            connection.commit()
            assert weights(engine) == f"article {seen} 0!"


@pytest.mark.parametrize("storage", ["halfvec", "bit"])
def test_autogenerate_builds_the_hnsw_index_again_where_its_parameters_changed(engine: Engine, storage: str) -> None:
    shop = articles(storage=storage)
    shop.Base.metadata.create_all(engine)
    built = "select reloptions from pg_class where relname = 'article_chunk_dense_idx'"
    with engine.begin() as connection:
        other = articles(storage=storage, hnsw=HNSW(m=8, ef_construction=100))
        context = context_of(connection, other.Base.metadata)
        found = produce_migrations(context, other.Base.metadata)
        dropped, created = found.upgrade_ops.ops
        assert (type(dropped).__name__, type(created).__name__) == ("DropIndexOp", "CreateIndexOp")
        for operation in (dropped, created):
            Operations(context).invoke(operation)
        assert connection.scalar(text(built)) == ["m=8", "ef_construction=100"]
        assert produce_migrations(
            context_of(connection, other.Base.metadata), other.Base.metadata
        ).upgrade_ops.is_empty()
        for operation in found.downgrade_ops.ops:
            Operations(context).invoke(operation)
        assert connection.scalar(text(built)) == ["m=16", "ef_construction=64"]
        assert produce_migrations(context, shop.Base.metadata).upgrade_ops.is_empty()


def test_autogenerate_drops_the_routines_of_an_index_that_is_declared_no_more(
    engine: Engine, shop: SimpleNamespace
) -> None:
    metadata = MetaData()
    shop.Article.__table__.to_metadata(metadata)
    with engine.connect() as connection:
        found = produce_migrations(context_of(connection, metadata), metadata)
        assert found.upgrade_ops is not None
        assert "op.drop_search_index('article')" in render_python_code(found.upgrade_ops)
        assert "op.define_search_index({" in render_python_code(found.downgrade_ops)
        Operations(context_of(connection, metadata)).invoke(found.upgrade_ops.ops[0])
        connection.commit()
    assert routines(engine) == []


def test_names_that_need_quotes_and_a_schema_of_their_own(engine: Engine) -> None:
    class Base(DeclarativeBase):
        metadata = MetaData(schema="My 'shop\"")

    class Odd(Base):
        __tablename__ = "Odd table%s"

        key: Mapped[int] = mapped_column("The key", primary_key=True)
        words: Mapped[str] = mapped_column('wo"rds')

    SearchIndex(Odd, ["words"], encoder=WordHashEncoder())
    with engine.begin() as connection:
        connection.execute(text('create schema "My \'shop"""'))
        Base.metadata.create_all(connection)
    assert weights(engine, '"My \'shop"""."Odd table%s_weights"') == "My 'shop\".Odd table%s {1.0} 0!"
    Base.metadata.drop_all(engine)
    assert routines(engine) == []


def test_the_schema_that_the_search_path_names_holds_them(engine: Engine, database: URL) -> None:
    with engine.begin() as connection:
        connection.execute(text("create schema shop"))
    elsewhere = create_engine(database, connect_args={"options": "-c search_path=shop,public"})
    shop = articles()
    shop.Base.metadata.create_all(elsewhere)
    assert weights(engine, "shop.article_weights") == "article {1.0,1.0} 0!"
    with elsewhere.begin() as connection:
        undefine(connection, "article")
    assert routines(engine) == []
    elsewhere.dispose()


@pytest.fixture
def bare_engine(bare_database: URL) -> Iterator[Engine]:
    engine = create_engine(bare_database)
    yield engine
    engine.dispose()


def test_without_our_schema_the_error_says_what_to_do(bare_engine: Engine) -> None:
    with bare_engine.begin() as connection:
        connection.execute(text("create extension vector"))
    with pytest.raises(SchemaMissing, match="run `hybridsearch migrate` first"):
        articles().Base.metadata.create_all(bare_engine)


def test_a_field_has_to_be_a_column() -> None:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"

        id: Mapped[int] = mapped_column(primary_key=True)
        name = mapped_column(Text)
        loud = column_property(name + "!")

    with pytest.raises(DeclarationError, match=r"Thing\.loud is an expression"):
        SearchIndex(Thing, ["loud"], encoder=WordHashEncoder())
