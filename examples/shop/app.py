"""The shop's search as a web service: `uvicorn examples.shop.app:app`, then /search?q=red+chair&limit=5.

The connection comes from DATABASE_URL. Encoding and SQL run in Starlette's thread pool, so the event loop goes on.
"""

import os
from contextlib import asynccontextmanager

from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.shop.models import products
from hybridsearch import HybridSearch, HybridSearchError, QueryError
from hybridsearch.connect import sqlalchemy_url

search = HybridSearch(products)


@asynccontextmanager
async def lifespan(app: Starlette):
    app.state.engine = create_engine(sqlalchemy_url(os.environ["DATABASE_URL"]))
    yield
    app.state.engine.dispose()


def find(request: Request) -> list[dict]:
    with Session(request.app.state.engine) as session:
        hits = search.search(session, request.query_params.get("q", ""), limit=_limit(request))
        return [
            {
                "id": hit.document.id,
                "title": hit.document.title,
                "brand": hit.document.brand,
                "price": str(hit.document.price),
                "score": hit.score,
                "ranks": dict(hit.ranks),
            }
            for hit in hits
        ]


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "10")
    if not given.isascii() or not given.isdigit():
        raise QueryError(f"limit is {given!r}: give a whole number")
    return int(given)


async def answer(request: Request) -> JSONResponse:
    return JSONResponse(await run_in_threadpool(find, request))


async def health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


async def refuse(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=400 if isinstance(error, QueryError) else 503)


app = Starlette(
    routes=[Route("/search", answer), Route("/health", health)],
    exception_handlers={HybridSearchError: refuse},
    lifespan=lifespan,
)
