"""Let Alembic's autogenerate see a search index as it sees any table.

    context.configure(connection=connection, target_metadata=Base.metadata, **autogenerate_options())

The companion tables stand in the model's own MetaData, so `alembic revision --autogenerate` finds them by itself. What
it cannot do alone is write pgvector's types with their import, see that the HNSW index has other parameters, and keep
the routines of an index: `define_search_index` and `drop_search_index` are operations of a revision, there as soon as
env.py imports this module.
"""

from collections.abc import Collection
from dataclasses import asdict
from pprint import pformat
from typing import Any, Literal

import pgvector.sqlalchemy
from alembic.autogenerate import comparators, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateIndexOp, DropIndexOp, UpgradeOps
from alembic.util.langhelpers import DispatchPriority
from sqlalchemy import Connection, MetaData, text

from hybridsearch.companions import HNSW
from hybridsearch.definition import Definition
from hybridsearch.model import SearchIndex, declared
from hybridsearch.routines import define, stored, undefine

# Of an index, by the name of its table and its own.
_OPTIONS = text("""
    select coalesce(class.reloptions, '{}') as options
    from pg_catalog.pg_index as entry
    join pg_catalog.pg_class as class on class.oid = entry.indexrelid
    where entry.indrelid = to_regclass(:table) and class.relname = :index
""")
VECTOR_TYPES = (
    pgvector.sqlalchemy.VECTOR,
    pgvector.sqlalchemy.HALFVEC,
    pgvector.sqlalchemy.SPARSEVEC,
    pgvector.sqlalchemy.BIT,
)


def autogenerate_options() -> dict[str, Any]:
    """Return what `context.configure` needs to autogenerate and compare search indexes."""
    return {"render_item": render_item, "include_name": include_name, "compare_type": True}


def render_item(type_: str, item: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write pgvector's types as `pgvector.sqlalchemy.X(n)`, with the import; leave everything else to Alembic."""
    if type_ == "type" and isinstance(item, VECTOR_TYPES):
        autogen_context.imports.add("import pgvector.sqlalchemy")
        return f"pgvector.sqlalchemy.{item!r}"
    return False


def include_name(name: str | None, type_: str, parent_names: Any) -> bool:
    """Leave out our own schema: `hybridsearch migrate` keeps it, not the application's revisions."""
    return not (type_ == "schema" and name == "hybridsearch")


@Operations.register_operation("define_search_index")
class DefineSearchIndex(MigrateOperation):
    """Make the functions and triggers of an index, as `definition` says; `former` is what they were before."""

    def __init__(self, definition: dict[str, Any], former: dict[str, Any] | None = None) -> None:
        self.definition = definition
        self.former = former

    @classmethod
    def define_search_index(cls, operations: Operations, definition: dict[str, Any]) -> None:
        """Make the functions and triggers of an index."""
        operations.invoke(cls(definition))

    def reverse(self) -> MigrateOperation:
        """Return the operation that undoes this one."""
        if self.former is None:
            return DropSearchIndex(Definition(**self.definition).qualified_name, self.definition)
        return DefineSearchIndex(self.former, self.definition)


@Operations.register_operation("drop_search_index")
class DropSearchIndex(MigrateOperation):
    """Drop the functions and triggers of an index, by its name (with its schema, where it is declared with one)."""

    def __init__(self, name: str, former: dict[str, Any] | None = None) -> None:
        self.name = name
        self.former = former

    @classmethod
    def drop_search_index(cls, operations: Operations, name: str) -> None:
        """Drop the functions and triggers of an index."""
        operations.invoke(cls(name))

    def reverse(self) -> MigrateOperation:
        """Return the operation that undoes this one."""
        if self.former is None:
            raise ValueError(f'index "{self.name}" cannot be defined again: its definition is not known')
        return DefineSearchIndex(self.former)


@Operations.implementation_for(DefineSearchIndex)
def _define(operations: Operations, operation: DefineSearchIndex) -> None:
    define(operations.get_bind(), Definition(**operation.definition))


@Operations.implementation_for(DropSearchIndex)
def _drop(operations: Operations, operation: DropSearchIndex) -> None:
    undefine(operations.get_bind(), operation.name)


@renderers.dispatch_for(DefineSearchIndex)
def _render_define(autogen_context: AutogenContext, operation: DefineSearchIndex) -> str:
    return f"op.define_search_index({pformat(operation.definition, sort_dicts=False)})"


@renderers.dispatch_for(DropSearchIndex)
def _render_drop(autogen_context: AutogenContext, operation: DropSearchIndex) -> str:
    return f"op.drop_search_index({operation.name!r})"


@comparators.dispatch_for("schema", priority=DispatchPriority.LAST)
def _compare(autogen_context: AutogenContext, upgrade: UpgradeOps, schemas: Collection[str | None]) -> None:
    """Define what is declared otherwise than the database knows it, once its tables are there; drop the rest before."""
    metadata, connection = autogen_context.metadata, autogen_context.connection
    if metadata is None or connection is None:
        return
    all_metadata = [metadata] if isinstance(metadata, MetaData) else metadata
    indexes = {name: index for one in all_metadata for name, index in declared(one).items()}
    wanted = {name: index.definition for name, index in indexes.items()}
    known = stored(connection)
    for index in indexes.values():
        upgrade.ops += _hnsw_again(connection, index)
    for name, definition in known.items():
        if name not in wanted and definition.namespace in schemas:
            upgrade.ops.insert(0, DropSearchIndex(name, definition.model_dump(mode="json")))
    for name, definition in wanted.items():
        if known.get(name) != definition:
            former = known[name].model_dump(mode="json") if name in known else None
            upgrade.ops.append(DefineSearchIndex(definition.model_dump(mode="json"), former))


def _hnsw_again(connection: Connection, index: SearchIndex) -> list[MigrateOperation]:
    """Drop and create the HNSW index where it was built otherwise than declared, which Alembic does not compare."""
    (hnsw,) = index.chunks.indexes
    table = connection.dialect.identifier_preparer.format_table(index.chunks)
    found = connection.execute(_OPTIONS, {"table": table, "index": hnsw.name}).one_or_none()
    if found is None:
        return []
    built = asdict(HNSW()) | {name: int(value) for name, value in (option.split("=") for option in found.options)}
    if built == asdict(index.hnsw):
        return []
    create = CreateIndexOp.from_index(hnsw)
    former = CreateIndexOp.from_index(hnsw)
    former.kw = {**former.kw, "postgresql_with": built}
    drop = DropIndexOp.from_index(hnsw)
    drop.kw, drop._reverse = former.kw, former
    return [drop, create]
