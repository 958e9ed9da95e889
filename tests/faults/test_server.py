"""kill -9 of PostgreSQL, with all its processes, in the midst of a backfill and of the queue; a disk that is full."""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from hybridsearch.backfill import backfill
from hybridsearch.errors import DatabaseError
from hybridsearch.schema import migrate
from tests.faults.application import application
from tests.faults.shop import shop
from tests.support.command_line import PROGRAM, ROOT, environment
from tests.support.crash import Mortal, mortal_server
from tests.support.workers import assert_intact, is_drained, nursery, until
from tests.support.writers import add

CRASHES = int(os.environ.get("HYBRIDSEARCH_TEST_CRASHES", "3"))


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortal]:
    with mortal_server() as server:
        yield server


@pytest.fixture
def crashing(mortal: Mortal) -> Iterator[Engine]:
    """An engine on a new database of the mortal server, with the application's tables."""
    with application(mortal.address) as engine:
        yield engine


def test_a_worker_goes_on_after_the_server_was_killed(mortal: Mortal, crashing: Engine) -> None:
    chance = random.Random(9)
    with nursery(crashing.url, HYBRIDSEARCH_TEST_DELAY="0.005") as workers:
        for _ in range(2):
            workers.start()
        for written in range(0, 100 * CRASHES, 100):
            until(partial(can_write, crashing, written))
            time.sleep(chance.uniform(0, 0.8))
            mortal.kill()
            time.sleep(0.3)
            mortal.restart()
            crashing.dispose()
        until(lambda: is_drained(crashing, shop))
    print(f"{mortal.kills} kills of the server, 0 differences")
    assert_intact(crashing, shop)


def can_write(engine: Engine, written: int) -> bool:
    try:
        add(engine, written + 1, written + 100)
    except DBAPIError:
        engine.dispose()
        return False
    return True


def test_a_backfill_whose_server_was_killed_goes_on_where_it_was(mortal: Mortal, crashing: Engine) -> None:
    add(crashing, 1, 400)
    command = [*PROGRAM, "index", "--app", "tests.faults.shop", "--batch", "16"]
    settings = environment(crashing.url) | {"HYBRIDSEARCH_TEST_DELAY": "0.004"}
    encoded = [0]
    for _ in range(2):
        with subprocess.Popen(command, env=settings, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            until(lambda: chunks(crashing) > encoded[-1] + 40 or process.poll() is not None)
            mortal.kill()
            _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert errors.startswith("error: "), errors
        mortal.restart()
        crashing.dispose()
        encoded.append(chunks(crashing))
    assert encoded[0] < encoded[1] < encoded[2] < 400
    done = subprocess.run(command, env=settings, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"{400 - encoded[-1]} written" in done.stdout
    assert_intact(crashing, shop)


def chunks(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("select count(*) from article_chunk")) or 0


# The disk


@pytest.fixture
def small_disk(admin: Engine, server: URL) -> Iterator[tuple[Engine, Path]]:
    """A database in a tablespace of 24 MB."""
    if sys.platform != "linux" or os.geteuid() != 0 or "HYBRIDSEARCH_TEST_URL" in os.environ:
        pytest.skip("a small disk has to be mounted: Linux, root, and a server of one's own")
    folder = Path(tempfile.mkdtemp(prefix="hybridsearch-disk-"))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0755", "none", folder], check=False).returncode:
        folder.rmdir()
        pytest.skip("tmpfs cannot be mounted here")
    name = f"small_{random.randrange(10**9)}"
    try:
        (folder / "space").mkdir()
        shutil.chown(folder / "space", "embedded_postgres")
        with admin.connect() as connection:
            connection.execute(text(f"create tablespace {name} location '{folder / 'space'}'"))
            connection.execute(text(f"create database {name} template template0 tablespace {name}"))
        engine = create_engine(server.set(database=name))
        with engine.begin() as connection:
            migrate(connection)
            shop.Base.metadata.create_all(connection)
        yield engine, folder
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"drop database {name} with (force)"))
            connection.execute(text(f"drop tablespace {name}"))
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        folder.rmdir()


def test_a_full_disk_stops_the_work_and_nothing_is_lost(small_disk: tuple[Engine, Path]) -> None:
    engine, folder = small_disk
    add(engine, 1, 200)
    filler = folder / "filler"
    with nursery(engine.url) as workers:
        fill(filler)
        workers.start()
        until(lambda: any("disk is full" in line for line in workers.said))
        assert not is_drained(engine, shop)
        filler.unlink()
        until(lambda: is_drained(engine, shop))
    assert_intact(engine, shop)


def test_a_backfill_on_a_full_disk_says_so_and_goes_on_later(small_disk: tuple[Engine, Path]) -> None:
    engine, folder = small_disk
    add(engine, 1, 200)
    fill(folder / "filler")
    with pytest.raises(DatabaseError, match="disk is full"):
        backfill(engine, shop.index)
    (folder / "filler").unlink()
    assert backfill(engine, shop.index).read == 200
    assert_intact(engine, shop)


def fill(filler: Path) -> None:
    """Write until nothing fits any more."""
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
