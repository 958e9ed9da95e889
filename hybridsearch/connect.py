"""From a PostgreSQL address as people write it to one that SQLAlchemy opens with psycopg."""

from sqlalchemy import URL, make_url
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
