"""The example's Alembic environment: an application's revisions, with ours in them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations.ops import MigrateOperation, OpContainer
from sqlalchemy import URL, Connection, Engine, create_engine, inspect, text

from examples.shop import Base, products
from hybridsearch.alembic import autogenerate_options
from hybridsearch.schema import SCHEMA

ROOT = Path(__file__).resolve().parents[2]
REVISION = ROOT / "alembic" / "versions" / "0002_search_index.py"


class Shop:
    """The example's database, and `alembic` on it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def alembic(self, name: str, *arguments: str) -> None:
        config = Config(ROOT / "alembic.ini")
        with self.engine.connect() as connection:
            config.attributes["connection"] = connection
            getattr(command, name)(config, *arguments)

    def tables(self) -> set[str]:
        return set(inspect(self.engine).get_table_names())


@pytest.fixture
def shop(bare_database: URL) -> Iterator[Shop]:
    engine = create_engine(bare_database)
    yield Shop(engine)
    engine.dispose()


def context_of(connection: Connection) -> MigrationContext:
    return MigrationContext.configure(connection, opts={**autogenerate_options(), "target_metadata": Base.metadata})


def body(source: str, function: str) -> list[str]:
    """Return the statements of a function, whatever their layout."""
    (found,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == function)
    return [ast.unparse(statement) for statement in found.body]


def rendered(operations: OpContainer | MigrateOperation, context: MigrationContext, function: str) -> list[str]:
    code = render_python_code(operations, render_item=autogenerate_options()["render_item"], migration_context=context)
    return body(f"def {function}():\n    {code}", function)


def test_after_upgrade_head_there_is_nothing_to_generate(shop: Shop) -> None:
    shop.alembic("upgrade", "head")
    assert shop.tables() == {"alembic_version", "product"} | {table.name for table in products.tables}
    shop.alembic("check")


def test_the_first_revision_is_the_shop_as_it_was(shop: Shop) -> None:
    shop.alembic("upgrade", "0001")
    assert shop.tables() == {"alembic_version", "product"}


def test_the_checked_in_revision_is_what_autogenerate_writes(shop: Shop) -> None:
    shop.alembic("upgrade", "0001")
    source = REVISION.read_text(encoding="utf-8")
    with shop.engine.connect() as connection:
        context = context_of(connection)
        generated = produce_migrations(context, Base.metadata)
        assert rendered(generated.upgrade_ops, context, "upgrade") == body(source, "upgrade")
        assert rendered(generated.downgrade_ops, context, "downgrade") == body(source, "downgrade")


def test_down_to_nothing_and_up_again(shop: Shop) -> None:
    shop.alembic("upgrade", "head")
    shop.alembic("downgrade", "base")
    assert shop.tables() == {"alembic_version"}
    shop.alembic("upgrade", "head")
    shop.alembic("check")


def test_the_schema_of_hybridsearch_is_no_matter_of_autogenerate(shop: Shop) -> None:
    shop.alembic("upgrade", "head")
    with shop.engine.connect() as connection:
        assert connection.scalar(text("select count(*) from hybridsearch.migration")) > 0
        options = {**autogenerate_options(), "target_metadata": Base.metadata, "include_schemas": True}
        context = MigrationContext.configure(connection, opts=options)
        assert produce_migrations(context, Base.metadata).upgrade_ops.is_empty()
        assert inspect(connection).has_schema(SCHEMA)
