"""Let Alembic's autogenerate see a search index as it sees any table.

    context.configure(connection=connection, target_metadata=Base.metadata, **autogenerate_options())

The companion tables stand in the model's own MetaData, so `alembic revision --autogenerate` finds them by itself. What
it cannot do alone is write pgvector's types with their import.
"""

from typing import Any, Literal

import pgvector.sqlalchemy
from alembic.autogenerate.api import AutogenContext

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
