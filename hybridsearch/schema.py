"""Bring our own schema, `hybridsearch`, of a database to this version: numbered migrations, functions, routines.

    with engine.begin() as connection:
        migrate(connection)                 # ["0001_schema.sql", "analysis.sql"]; the second time []

A numbered migration runs once. A file of functions runs again whenever its text has changed, and so do the routines of
the indexes that the database knows. The ledger, `hybridsearch.migration`, holds the name and checksum of what has run.
The work is one transaction under an advisory lock, so two processes may call it at once, and a failure leaves nothing.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Column, Connection, DateTime, MetaData, Table, Text, func, inspect, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.schema import CreateSchema

from hybridsearch.errors import ExtensionMissing, SchemaMissing
from hybridsearch.resources import FUNCTIONS, MIGRATIONS
from hybridsearch.routines import SCHEMA, define_again, outdated

LOCK = 0x68796272_69647365  # "hybridse": the key of the advisory lock
MIN_PGVECTOR = (0, 7)
_NUMBERED = re.compile(r"\d{4}_")

metadata = MetaData(schema=SCHEMA)
ledger = Table(
    "migration",
    metadata,
    Column("name", Text, primary_key=True),
    Column("checksum", Text, nullable=False),
    Column("applied_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


@dataclass(frozen=True)
class Script:
    """A file of SQL; `once` for a numbered migration, else it runs whenever its text changes."""

    name: str
    text: str
    once: bool

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def scripts() -> Iterator[Script]:
    """Yield what this version has, in the order in which it is applied."""
    for folder, once in ((MIGRATIONS, True), (FUNCTIONS, False)):
        for path in sorted(Path(folder).glob("*.sql")):
            yield Script(path.name, path.read_text(encoding="utf-8"), once)


def migrate(connection: Connection) -> list[str]:
    """Apply what is missing, in the caller's transaction; return the names of what ran: files, "routines of article".

    Raises ExtensionMissing where pgvector is absent from the server or older than 0.7, SchemaMissing where an applied
    migration differs from the one shipped here, or is not among them (the database belongs to another release).
    """
    connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
    check_pgvector(connection)
    # Not in a numbered migration alone: an extension that was dropped, or left out of a restored dump, comes back.
    connection.exec_driver_sql("create extension if not exists vector")
    connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
    ledger.create(connection, checkfirst=True)
    applied = _applied(connection)
    known = {script.name for script in scripts()}
    if newer := sorted(name for name in applied if _NUMBERED.match(name) and name not in known):
        raise SchemaMissing(
            f"this database has migration {newer[-1]}, which this release of hybridsearch does not know: "
            f"it was migrated by a newer one, install that one"
        )
    ran = []
    for script in scripts():
        if applied.get(script.name) == script.checksum:
            continue
        if script.once and script.name in applied:
            raise SchemaMissing(
                f"migration {script.name} was applied to this database with another text: "
                f"it belongs to another release of hybridsearch; install that one, or restore the file"
            )
        # Without parameters the driver sends the text as it is: several statements, and no meaning for %.
        connection.exec_driver_sql(script.text, execution_options={"no_parameters": True})
        entry = insert(ledger).values(name=script.name, checksum=script.checksum)
        connection.execute(
            entry.on_conflict_do_update(
                index_elements=[ledger.c.name], set_={"checksum": entry.excluded.checksum, "applied_at": func.now()}
            )
        )
        ran.append(script.name)
    return [*ran, *map(_routines_of, define_again(connection))]


def pending(connection: Connection) -> list[str]:
    """Return the names of what `migrate` would run."""
    if not inspect(connection).has_table(ledger.name, schema=SCHEMA):
        return [script.name for script in scripts()]
    applied = _applied(connection)
    files = [script.name for script in scripts() if applied.get(script.name) != script.checksum]
    return [*files, *map(_routines_of, outdated(connection))]


def _routines_of(name: str) -> str:
    return f"routines of {name}"


def _applied(connection: Connection) -> dict[str, str]:
    return {row.name: row.checksum for row in connection.execute(select(ledger.c.name, ledger.c.checksum))}


def check_pgvector(connection: Connection) -> str:
    """Return the version of pgvector that the database has, or would get; raise ExtensionMissing below 0.7."""
    row = connection.execute(
        select(_extensions.c.installed_version, _extensions.c.default_version).where(_extensions.c.name == "vector")
    ).one_or_none()
    if row is None:
        raise ExtensionMissing(
            "this PostgreSQL server has no pgvector: install the package for its version "
            "(https://github.com/pgvector/pgvector#installation), then migrate again"
        )
    version: str = row.installed_version or row.default_version
    if _is_old(version):
        upgrade = (
            "install a newer package of pgvector on the server (https://github.com/pgvector/pgvector#upgrading)"
            if _is_old(row.default_version)
            else "run `alter extension vector update` in this database, the server has " + row.default_version
        )
        raise ExtensionMissing(f"pgvector {version} is too old, hybridsearch needs 0.7 or later: {upgrade}")
    return version


def _is_old(version: str) -> bool:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MIN_PGVECTOR


_extensions = Table(
    "pg_available_extensions",
    MetaData(),
    Column("name", Text),
    Column("default_version", Text),
    Column("installed_version", Text),
    schema="pg_catalog",
)
