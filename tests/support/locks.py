"""Tables that nobody can read meanwhile: what a broken part of a database looks like to a search."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, func, select, text


@contextmanager
def locked(engine: Engine, table: str) -> Iterator[None]:
    """Nobody can read the table meanwhile: whoever tries, waits."""
    with engine.begin() as connection:
        connection.execute(text(f"lock table {table} in access exclusive mode"))
        yield
        connection.rollback()


@contextmanager
def hopeless(engine: Engine, table: str) -> Iterator[None]:
    """The same, and a statement that waits for the table is cancelled at once, as by a limit of time.

    Which statements are cut off does not depend on how fast the machine is.
    """
    stop = threading.Event()
    waiting = text("select pid, waitstart from pg_locks where not granted and waitstart is not null")

    def cancel() -> None:
        done: set[Any] = set()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not stop.wait(0.01):
                new = {(row.pid, row.waitstart) for row in connection.execute(waiting)} - done
                done |= new
                for pid, _ in new:
                    connection.execute(select(func.pg_cancel_backend(pid)))

    with locked(engine, table):
        thread = threading.Thread(target=cancel)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
