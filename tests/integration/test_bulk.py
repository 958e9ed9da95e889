"""A fill of many rows: what it holds in memory, and its pace."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from hybridsearch.backfill import backfill
from tests.support.command_line import ROOT, environment
from tests.support.models import articles, fill


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(config="simple")
    fill(engine, shop)
    return shop


FILL = """
import re, sys
from pathlib import Path
from sqlalchemy import create_engine
from hybridsearch.backfill import backfill
from tests.support.models import articles
from tests.support.encoders import WordHashEncoder
class Forgetful(WordHashEncoder):
    def _vector(self, text):
        self.encoded.clear()
        return super()._vector("the same for all")
index = articles(config="simple", encoder=Forgetful()).index
total = backfill(create_engine(sys.argv[1]), index)
# Not ru_maxrss, which counts the process that this one was forked from.
print(total.written, re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
def test_a_fill_of_many_rows_holds_few_in_memory(engine: Engine, shop: SimpleNamespace) -> None:
    peaks = []
    many = "insert into article select n, 'chair', repeat('red ', 500) || n from generate_series(1, {}) as n"
    for rows in (300, 2_500):
        with engine.begin() as connection:
            connection.execute(text("truncate article"))
            connection.execute(text(many.format(rows)))
        address = engine.url.render_as_string(hide_password=False)
        command = [sys.executable, "-c", FILL, address]
        done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
        written, peak = map(int, done.stdout.split())
        assert written == rows
        peaks.append(peak)
    print(peaks)
    assert peaks[1] - peaks[0] < 12 * 1024, peaks  # kB; the chunks alone are 12,500


def test_a_throttled_fill_takes_its_time(engine: Engine, shop: SimpleNamespace) -> None:
    with engine.begin() as connection:
        connection.execute(text("insert into article (id, title) select n, 'chair' from generate_series(10, 29) as n"))
    began = time.monotonic()
    assert backfill(engine, shop.index, throttle=16).read == 24
    assert time.monotonic() - began > 1.4
