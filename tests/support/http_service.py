"""Serve an ASGI application in a process of its own, as in production, and wait until it answers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sqlalchemy import URL

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def served(application: str, database: URL, *, path: str = "/health", **settings: str) -> Iterator[str]:
    """Yield the address of `application` under uvicorn, once it answers at `path`.

    `settings` are variables of its environment.
    """
    environment = os.environ | {"DATABASE_URL": database.render_as_string(hide_password=False)} | settings
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}{path}", process)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _wait(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, "the service has ended"
        try:
            if httpx.get(address, timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")
