"""The example service with a probe in its event loop: `uvicorn benchmarks.load_app:app`, then /probe.

The probe asks for control every 5 ms and notes how much later it gets it: so long nobody else got it either.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from examples.fastapi_app import app as service

EVERY = 0.005


async def probe(lags: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(EVERY)
        lags.append(time.perf_counter() - begun - EVERY)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with service.lifespan(app):
        app.state.lags = []
        watching = asyncio.create_task(probe(app.state.lags))
        yield
        watching.cancel()


app = service.app
app.router.lifespan_context = lifespan


@app.get("/probe")
async def lags() -> dict[str, float]:
    """How long the event loop was blocked at most, in seconds, since the last call."""
    found, app.state.lags[:] = sorted(app.state.lags), []
    return {"longest": found[-1], "p99": found[len(found) * 99 // 100], "count": len(found)}
