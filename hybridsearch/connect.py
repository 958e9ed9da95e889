"""From a PostgreSQL address as people write it to one that SQLAlchemy opens with psycopg; the engine of a worker."""

from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from hybridsearch.errors import ConfigurationError


def sqlalchemy_url(address: str) -> URL:
    """Return the URL with the psycopg driver where it names none.

    `postgres://`, `postgresql://` and `postgresql+<driver>://` are taken. Raises ConfigurationError for anything else.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:  # a port that is no number is a ValueError
        raise ConfigurationError(
            "the database address is not a URL: postgresql://user:password@host:5432/name"
        ) from error
    if url.drivername in {"postgres", "postgresql"}:
        return url.set(drivername="postgresql+psycopg")
    if not url.drivername.startswith("postgresql+"):
        raise ConfigurationError(f"the database address is for {url.drivername}: hybridsearch works with PostgreSQL")
    return url


# libpq's names. A connection whose other end is gone is given up after about 25 seconds, on either side.
_TCP = {"connect_timeout": "10", "keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3"}
# A session that is gone without a word frees its locks by these.
_SESSION = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "60s",
}


_SET = """
    select set_config(given.name, given.value, false)
    from unnest(%s::text[], %s::text[]) as given(name, value)
    join pg_catalog.pg_settings as setting on setting.name = given.name and setting.source = 'default'
"""


def worker_engine(url: URL) -> Engine:
    """Return an engine whose connections notice a lost network, and free what they held.

    What the address, the role or the server sets otherwise stays.
    """
    options = {name: value for name, value in (_TCP | {"tcp_user_timeout": "25000"}).items() if name not in url.query}
    engine = create_engine(url, connect_args=options)

    def prepared(connection: Any, record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_SET, (list(_SESSION), list(_SESSION.values())))
        connection.commit()

    event.listen(engine, "connect", prepared)
    return engine
