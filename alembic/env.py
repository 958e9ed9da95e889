"""The example's Alembic environment: an ordinary one, with two lines for hybridsearch."""

import os

from alembic import context
from sqlalchemy import NullPool, create_engine

from examples.shop import Base
from hybridsearch.alembic import autogenerate_options
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.schema import migrate


def run(connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, **autogenerate_options())
    with context.begin_transaction():
        migrate(connection)
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("the example migrates online only: run without --sql")
if (given := context.config.attributes.get("connection")) is not None:
    run(given)
else:
    address = sqlalchemy_url(os.environ.get("DATABASE_URL", ""))
    with create_engine(address, poolclass=NullPool).connect() as connection:
        run(connection)
