"""Let in as many requests as there are connections, let a few wait, and send the others away at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Full(Exception):
    """Too many requests wait already, or this one has waited too long."""


class Gate:
    """`places` requests are in, at most `waiting` wait for up to `patience` seconds each."""

    def __init__(self, places: int, waiting: int, patience: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._waiting, self._patience = waiting, patience
        self._queue = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place for the block; raise Full where there is none in time."""
        if self._free.locked() and self._queue >= self._waiting:
            raise Full
        self._queue += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError as error:
            raise Full from error
        finally:
            self._queue -= 1
        try:
            yield
        finally:
            self._free.release()
