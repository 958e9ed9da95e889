"""Give up connections whose statements take too long: what keeps a socket open need not answer.

    watch = Watch(300.0)
    with watch.over(connection):        # of SQLAlchemy
        connection.execute(...)         # raises an OperationalError once `check` finds it too old
    watch.check()                       # from another thread, now and then

A server that is cut off without a word is found out by TCP's keepalives, as `worker_engine` sets them; a proxy between,
which answers those itself, is not.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Connection

logger = logging.getLogger(__name__)


class Watch:
    """Knows which connections are at work, and since when; each may be for `patience` seconds."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._since: dict[int, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Watch a connection while the block runs."""
        driver: Any = connection.connection.dbapi_connection  # also of a detached one
        number = os.dup(driver.fileno())  # a number of our own: the driver's may be another socket's by then
        with self._lock:
            self._since[number] = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                del self._since[number]
                os.close(number)

    def check(self) -> None:
        """Shut down what has been at work for too long."""
        with self._lock:
            for number, since in self._since.items():
                if time.monotonic() - since > self.patience:
                    logger.warning("a connection has not answered for %.0f s: it is given up", self.patience)
                    self._since[number] = time.monotonic()
                    with suppress(OSError), socket.socket(fileno=os.dup(number)) as end:
                        end.shutdown(socket.SHUT_RDWR)
