"""A fill of many rows: what it holds in memory, and its pace."""

import os
import re
import subprocess
import sys
import threading
import time
from io import StringIO
from itertools import takewhile
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psutil
import pytest
from rich.console import Console
from sqlalchemy import Engine, delete, func, make_url, select, text
from sqlalchemy.orm import Session

from hybridsearch.backfill import backfill
from hybridsearch.cli_upkeep import _Helpers
from hybridsearch.display import filling
from hybridsearch.page import Page
from hybridsearch.queue import Limits
from hybridsearch.worker import Worker
from tests.support.afresh import differences
from tests.support.command_line import ROOT, environment, refusal
from tests.support.models import articles, fill
from tests.support.workers import until
from tests.support.writers import add, writing


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(config="simple")
    fill(engine, shop)
    return shop


def insert(engine: Engine, number: int) -> None:
    """Write so many more articles."""
    rows = "insert into article (id, title) select n, 'chair' from generate_series(10, 9 + :number) as n"
    with engine.begin() as connection:
        connection.execute(text(rows), {"number": number})


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


def test_rows_that_were_noted_before_a_fill_are_done_step_by_step(engine: Engine, shop: SimpleNamespace) -> None:
    insert(engine, 20)
    pages: list[Page] = []
    backfill(engine, shop.index, limits=Limits(batch=4), on_page=pages.append)
    waiting = list(takewhile(lambda page: not page.read, pages))
    assert sum(page.written for page in waiting) == 24
    assert max(page.written for page in waiting) == 4


@pytest.mark.parametrize("are_noted", [True, False])
def test_a_throttled_fill_takes_its_time(engine: Engine, shop: SimpleNamespace, are_noted: bool) -> None:
    insert(engine, 20)
    if not are_noted:
        with engine.begin() as connection:
            connection.execute(delete(shop.index.changes))
    began, done = time.monotonic(), Page()

    def see(page: Page) -> None:
        nonlocal done
        done += page
        assert max(done.read, done.written) <= 16 * (1 + time.monotonic() - began)

    assert backfill(engine, shop.index, throttle=16, on_page=see) == Page(read=24, written=24)
    assert time.monotonic() - began > 1.4


def test_a_throttle_is_of_one_process() -> None:
    said = refusal("index", "--throttle", "5", "--workers", "2", "--app", "tests.support.shop")
    assert said == "--throttle holds back this process alone: give it, or --workers"


def test_a_fill_ends_beside_writers_who_never_do(engine: Engine) -> None:
    from tests.faults.shop import shop

    shop.Base.metadata.create_all(engine)
    add(engine, 1, 300)
    with patch.dict(os.environ, HYBRIDSEARCH_TEST_DELAY="0.01"), writing(engine, 4, pause=0.02) as done:
        filled = threading.Thread(target=backfill, args=(engine, shop.index))
        filled.start()
        filled.join(60)
        assert not filled.is_alive()
        assert done["committed"] > 50
        with Session(engine) as session:
            encoded = select(func.count()).where(shop.index.documents.c.encoded_at.is_not(None))
            assert (session.scalar(encoded) or 0) > 200
    Worker(engine, [shop.index]).once()
    assert differences(engine, shop.index) == 0


@pytest.mark.parametrize(
    ("pages", "shown"),
    [
        ([Page(written=2)], "2/14"),
        ([Page(written=2), Page(removed=1)], "3/14"),
        ([Page(written=2), Page(read=5), Page(written=5)], "9/14"),
        ([Page(read=5), Page(read=5)], "14/14"),
    ],
)
def test_the_bar_goes_from_what_was_noted_to_the_last_row(pages: list[Page], shown: str) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=120)
    with filling(console, "article", 10, 4) as advance:
        for page in pages:
            advance(page)
    assert re.findall(r"\d+/14", console.file.getvalue())[-1] == shown


def test_the_password_is_in_the_environment_of_the_helpers_and_not_in_their_command() -> None:
    helpers = _Helpers(1, None, "article", make_url("postgresql+psycopg://me:secret@nowhere/none"))
    assert "secret" not in " ".join(helpers.command)
    assert helpers.environment["DATABASE_URL"] == "postgresql+psycopg://me:secret@nowhere/none"


def test_a_helper_that_has_ended_is_noticed(engine: Engine, capfd: Any) -> None:
    with _Helpers(2, "no_such_module", "article", engine.url).running():
        helpers = [one for one in psutil.Process().children() if one.name().startswith("python")]
        until(lambda: len(helpers) == 2 and all(one.status() == psutil.STATUS_ZOMBIE for one in helpers))
    assert "2 of 2 helping processes ended early, with status 1" in capfd.readouterr().out
