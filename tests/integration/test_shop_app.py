"""The example web service, over a real socket."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def service(bare_database: URL) -> Iterator[str]:
    environment = {**os.environ, "DATABASE_URL": bare_database.render_as_string(hide_password=False)}
    subprocess.run([sys.executable, "-m", "examples.shop.prepare"], cwd=ROOT, env=environment, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "examples.shop.app:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                get(f"{address}/health")
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(10)


def get(address: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_service_answers_and_refuses(service: str) -> None:
    status, hits = get(f"{service}/search?q=brother+tn-2110+toner&limit=3")
    assert status == 200
    assert hits[0]["title"].startswith("Brother TN-2110")
    assert len(hits) == 3
    for query, said in [("q=", "empty"), ("q=x&limit=0", "limit"), ("q=x&limit=many", "limit"), ("q=%00", "NUL")]:
        status, error = get(f"{service}/search?{query}")
        assert (status, said in error["error"]) == (400, True)
