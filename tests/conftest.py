"""A real PostgreSQL for the tests: HYBRIDSEARCH_TEST_URL, or an embedded one in a temporary folder. Never skipped."""

import os
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session

from hybridsearch.connect import sqlalchemy_url
from hybridsearch.schema import migrate
from tests.support.servers import own_server, password_server

TEMPLATE = "hybridsearch_test_template"

# The same cases in every run, however slow; others, and as many as are asked for, by `make fuzz`.
FUZZ = "HYBRIDSEARCH_FUZZ" in os.environ
settings.register_profile("ours", deadline=None, derandomize=not FUZZ, suppress_health_check=list(HealthCheck))
settings.load_profile("ours")


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """The address of the server's maintenance database."""
    given = os.environ.get("HYBRIDSEARCH_TEST_URL")
    if given:
        yield sqlalchemy_url(given)
        return
    with own_server() as address:
        yield address


@pytest.fixture(scope="session")
def guarded_server() -> Iterator[URL]:
    """The address, with the password, of a server that asks for one."""
    with password_server() as address:
        yield address


@pytest.fixture(scope="session")
def admin(server: URL) -> Iterator[Engine]:
    """An engine in autocommit on the maintenance database: it makes and drops databases."""
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def template(admin: Engine, server: URL) -> Iterator[str]:
    """A database with our schema and nothing else, to copy."""
    name = f"{TEMPLATE}_{uuid.uuid4().hex[:8]}"
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template template0 encoding 'UTF8'"))
    engine = create_engine(server.set(database=name))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    yield name
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))


@pytest.fixture
def database(admin: Engine, server: URL, template: str) -> Iterator[URL]:
    """The address of a database of the test's own, with our schema."""
    yield from _copy(admin, server, template)


@pytest.fixture(scope="module")
def module_database(admin: Engine, server: URL, template: str) -> Iterator[URL]:
    """The address of a database that the tests of a module share, with our schema."""
    yield from _copy(admin, server, template)


@pytest.fixture(scope="module")
def shared_engine(module_database: URL) -> Iterator[Engine]:
    """An engine on the database that the tests of a module share."""
    engine = create_engine(module_database)
    yield engine
    engine.dispose()


@pytest.fixture
def bare_database(admin: Engine, server: URL) -> Iterator[URL]:
    """The address of an empty database of the test's own."""
    yield from _copy(admin, server, "template0")


@pytest.fixture
def engine(database: URL) -> Iterator[Engine]:
    engine = create_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def _copy(admin: Engine, server: URL, template: str) -> Iterator[URL]:
    name = f"hybridsearch_test_{uuid.uuid4().hex[:12]}"
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template {template}"))
    yield server.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
