"""The application's tables on a server of the tests' own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL, Engine, create_engine, text

from hybridsearch.schema import migrate
from tests.faults.shop import shop


@contextmanager
def application(server: URL) -> Iterator[Engine]:
    """An engine on a new database of the server, with the application's tables."""
    name = f"faults_{random.randrange(10**9)}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name} template template0"))
    admin.dispose()
    engine = create_engine(server.set(database=name))
    try:
        with engine.begin() as connection:
            migrate(connection)
            shop.Base.metadata.create_all(connection)
        yield engine
    finally:
        engine.dispose()
