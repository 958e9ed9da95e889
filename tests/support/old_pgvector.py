"""A PostgreSQL with pgvector 0.6.2, which is too old for us: the server of the PyPI package pgserver 0.1.4.

    with old_server() as address: ...

Its import name is also that of another package, so it has an environment of its own, made once, in .venv-pgserver.
"""

import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from sqlalchemy import URL

from hybridsearch.connect import sqlalchemy_url

VERSION = "0.6.2"
PACKAGE = "pgserver==0.1.4"
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-pgserver"
PYTHON = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin") / "python"

# Starts the server, which switches user by itself when it runs as root; says where it is; stops it when stdin ends.
SERVE = """
import sys, pgserver
server = pgserver.get_server(sys.argv[1], cleanup_mode="delete")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
"""


@contextmanager
def old_server() -> Iterator[URL]:
    """Start the server, yield its address, stop it."""
    _make_environment()
    with tempfile.TemporaryDirectory(prefix="hybridsearch-old-") as folder:
        Path(folder).chmod(0o755)
        command = [PYTHON, "-W", "ignore", "-c", SERVE, Path(folder) / "postgres"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            yield sqlalchemy_url(process.stdout.readline().strip())
            # Leaving the block closes stdin, and waits for the end.


def _make_environment() -> None:
    made = ENVIRONMENT / PACKAGE
    with FileLock(f"{ENVIRONMENT}.lock"):
        if made.exists():
            return
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE], check=True)
        made.touch()
