"""The example service with a probe in its event loop: `uvicorn benchmarks.load_app:app`, then /probe.

The probe asks for control every 5 ms and notes how much later it gets it: so long nobody else got it either. It notes
as well for how much of that the loop's thread had the processor: the rest it waited for one, as on a busy machine.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from examples.fastapi_app import app as service

EVERY = 0.005


async def probe(lags: list[tuple[float, float]]) -> None:
    while True:
        begun, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(EVERY)
        lags.append((time.perf_counter() - begun - EVERY, time.thread_time() - worked))


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
    """How long the event loop was blocked, in seconds, since the last call: in all, and by work of its own."""
    found, app.state.lags[:] = list(app.state.lags), []
    waited, worked = (sorted(values) for values in zip(*found, strict=True))
    share = len(found) * 99 // 100
    return {
        "longest": waited[-1],
        "p99": waited[share],
        "longest_work": worked[-1],
        "p99_work": worked[share],
        "count": len(found),
    }
