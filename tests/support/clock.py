"""A server whose clock can be set, by libfaketime: the server's alone, all its processes at once."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from tests.support.servers import own_server


@dataclass(frozen=True)
class Clock:
    """Says how many seconds a server's clock is ahead."""

    file: Path

    def set(self, ahead: int) -> None:
        """Let it be so many seconds ahead, or behind, from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.chmod(0o644)
        new.replace(self.file)


@contextmanager
def server_with_clock() -> Iterator[tuple[URL, Clock]]:
    """An embedded server and its clock. Skips the test where there is no libfaketime that works."""
    spec = find_spec("libfaketime")
    if spec is None or spec.origin is None:
        pytest.skip("the server's clock is set by libfaketime, which is not installed (it is for Linux)")
    library = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    if "HYBRIDSEARCH_TEST_URL" in os.environ:
        pytest.skip("a server of one's own is needed")
    with tempfile.TemporaryDirectory(prefix="hybridsearch-clock-") as folder:
        Path(folder).chmod(0o755)
        clock = Clock(Path(folder) / "clock")
        clock.set(0)
        faked = {"FAKETIME_TIMESTAMP_FILE": str(clock.file), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
        with own_server(LD_PRELOAD=str(library), **faked) as address:
            clock.set(3600)
            engine = create_engine(address)
            with engine.connect() as connection:
                ahead = connection.scalar(text("select extract(epoch from clock_timestamp())::float8")) - time.time()
            engine.dispose()
            if ahead < 3000:
                pytest.skip("libfaketime does not set the clock of PostgreSQL here")
            clock.set(0)
            yield address, clock
