"""Where the files that we ship stand: beside the package in a checkout, inside it in an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _folder(shipped: str, checkout: str) -> Path:
    inside = PACKAGE / shipped
    return inside if inside.is_dir() else PACKAGE.parent / checkout


FUNCTIONS = PACKAGE / "sql"
MIGRATIONS = _folder("_migrations", "migrations")
EXAMPLES = _folder("_demo", ".")
"""The folder that holds `examples/`, `alembic/` and `alembic.ini`."""
