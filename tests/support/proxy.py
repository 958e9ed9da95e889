"""A network that can be cut: a TCP proxy before a server's Unix socket, that delays, stalls, resets, refuses."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import URL


class Proxy:
    """Passes everything on, until it is told otherwise."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[tuple[socket.socket, socket.socket]] = set()
        self._doomed: set[tuple[socket.socket, socket.socket]] = set()
        self._dead: set[tuple[socket.socket, socket.socket]] = set()
        self._passes = threading.Event()
        self._passes.set()
        self._closed = False
        self.delay = 0.0
        self.refuses = False
        self.faults: Counter[str] = Counter()
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self, *, new: bool = True) -> None:
        """Let nothing through; the connections stay. Without `new`, connections made later are let through."""
        self.faults["stall"] += 1
        if new:
            self._passes.clear()
        else:
            self._dead |= self._open

    def resume(self) -> None:
        """Let everything through again."""
        self._passes.set()
        self.refuses = False
        self.delay = 0.0

    def reset(self) -> None:
        """End every connection with a reset, on both sides."""
        self.faults["reset"] += 1
        self._doomed |= self._open

    def refuse(self) -> None:
        """Reset, and take no new connection."""
        self.refuses = True
        self.faults["refuse"] += 1
        self.reset()

    def slow(self, seconds: float) -> None:
        """Delay every piece by so much."""
        self.faults["delay"] += 1
        self.delay = seconds

    def close(self) -> None:
        self._closed = True
        self.resume()
        self._dead.clear()
        self.reset()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._path)
            except OSError:
                client.close()
                server.close()
                continue
            pair = (client, server)
            self._open.add(pair)
            for source, target in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, target, pair), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        source.settimeout(0.02)
        with suppress(OSError):
            while pair not in self._doomed:
                try:
                    data = source.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    break
                time.sleep(self.delay)
                while (pair in self._dead or not self._passes.wait(0.02)) and pair not in self._doomed:
                    time.sleep(0.01)
                target.sendall(data)
        if pair in self._doomed:
            for one in pair:
                with suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._open.discard(pair)
        for one in pair:
            with suppress(OSError):
                one.close()


@contextmanager
def proxied(address: URL) -> Iterator[tuple[Proxy, URL]]:
    """A proxy before the server of an address with a socket's folder, and the address through it."""
    folder = address.query["host"]
    assert isinstance(folder, str)
    proxy = Proxy(f"{folder}/.s.PGSQL.5432")
    try:
        yield proxy, address.set(host="127.0.0.1", port=proxy.port, query={})
    finally:
        proxy.close()
