"""The shop's search as a FastAPI service: `uvicorn examples.fastapi_app.app:app`, then /docs.

A request holds a connection for as long as its search takes, and there are never more of them than the pool has; the
text is encoded and documents are reranked in threads, so the event loop goes on. Settings: `settings.py`.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import ColumnElement, and_, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from starlette.exceptions import HTTPException

from examples.fastapi_app.gate import Full, Gate
from examples.fastapi_app.schemas import Answer, Counted, Problem, Why
from examples.fastapi_app.settings import ShopSettings
from examples.shop.models import Product, products
from hybridsearch import Facet, HybridSearch, HybridSearchError, QueryError, SearchRecord, Settings, StatementTimeout
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.worker import running

logger = logging.getLogger(__name__)


def log(record: SearchRecord) -> None:
    """One line for a search, without its text."""
    logger.info(
        "search of %s: %d hits in %.0f ms, lost: %s", record.index, record.hits, record.seconds * 1000, record.lost
    )


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings = ShopSettings()  # type: ignore[call-arg]  # from the environment
    engine = create_async_engine(
        sqlalchemy_url(settings.database_url), pool_size=settings.pool, max_overflow=0, pool_timeout=settings.patience
    )
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    app.state.gate = Gate(settings.pool, settings.waiting, settings.patience)
    app.state.search = HybridSearch(products, settings=Settings(deadline=settings.deadline), on_search=log)
    await asyncio.to_thread(warm, app.state.search)
    gc.freeze()  # what is loaded stays: no collection needs to look through it, for tens of milliseconds, again
    with working(settings) if settings.worker == "thread" else nullcontext():
        yield
    await engine.dispose()


def warm(search: HybridSearch) -> None:
    """Load the model: the first encoding does. Without it the service starts as well, and answers by words."""
    try:
        search.encode("the first encoding loads the model")
    except HybridSearchError:
        logger.warning("the encoder is not there yet", exc_info=True)


@contextmanager
def working(settings: ShopSettings) -> Iterator[None]:
    """Keep the index up to date in a thread, on connections of its own."""
    engine = create_engine(sqlalchemy_url(settings.database_url))
    with running(engine, [products]):
        yield
    engine.dispose()


async def searching(request: Request) -> HybridSearch:
    """The search, which all requests share, with the deadline that the service has for each."""
    found: HybridSearch = request.app.state.search
    return found


async def session(request: Request) -> AsyncIterator[AsyncSession]:
    """A session for one request, once there is a place for it."""
    async with request.app.state.gate.place(), request.app.state.sessions() as opened:
        yield opened


Search = Annotated[HybridSearch, Depends(searching)]
Opened = Annotated[AsyncSession, Depends(session)]
Text = Annotated[
    str,
    Query(
        alias="q",
        min_length=1,
        max_length=200,
        description='What is looked for: words, "a phrase", -exclusions, begin*',
        examples=['"laptop bag" -leather'],
    ),
]
Limit = Annotated[int, Query(ge=1, le=50, description="How many products at most")]
Brand = Annotated[str | None, Query(max_length=80, description="Only of this brand", examples=["HP"])]
Key = Annotated[int, Path(ge=1, le=2**31 - 1, description="The id of a product")]
Least = Annotated[float | None, Query(ge=0, le=1_000_000, description="Only from this price on", examples=[20])]
Most = Annotated[float | None, Query(ge=0, le=1_000_000, description="Only up to this price", examples=[100])]

PRICES = [(None, 20), (20, 50), (50, 100), (100, 200), (200, None)]
PROBLEMS = {
    400: "The query cannot be answered; the error says why",
    422: "A parameter is missing, or is not as described",
    503: "The search is not available, or busy: come back",
    504: "There was no answer in time",
}

app = FastAPI(
    title="The shop's search",
    description="Products by meaning and by words, in one ranked list.",
    version=version("hybridsearch"),
    lifespan=lifespan,
    responses={status: {"model": Problem, "description": said} for status, said in PROBLEMS.items()},
)


def chosen(brand: Brand = None, cheapest: Least = None, dearest: Most = None) -> ColumnElement[bool] | None:
    """What the buyer has ticked, as a condition that acts inside every leg of the search."""
    conditions = [
        Product.brand == brand if brand is not None else None,
        Product.price >= cheapest if cheapest is not None else None,
        Product.price <= dearest if dearest is not None else None,
    ]
    given = [condition for condition in conditions if condition is not None]
    return and_(*given) if given else None


Chosen = Annotated[Any, Depends(chosen)]


@app.get("/search")
async def find(search: Search, opened: Opened, q: Text, where: Chosen, limit: Limit = 10) -> Answer:
    """Products for a text, best first; "phrases", -exclusions and prefix* are understood."""
    return Answer.of(await search.search_async(opened, q, limit=limit, where=where, snippet=True))


@app.get("/products/{key}/similar", responses={404: {"model": Problem, "description": "There is no such product"}})
async def similar(search: Search, opened: Opened, key: Key, where: Chosen, limit: Limit = 10) -> Answer:
    """Products like one, by its vectors; no text is encoded."""
    if await opened.get(Product, key) is None:
        raise HTTPException(404, f"there is no product {key}")
    return Answer.of(await search.similar_to_async(opened, key, limit=limit, where=where))


@app.get("/facets")
async def facets(search: Search, opened: Opened, q: Text, where: Chosen) -> dict[str, list[Counted]]:
    """How many of the products found there are of each brand, and at which price."""
    by = {"brand": Facet(Product.brand), "price": Facet(Product.price, ranges=PRICES)}
    counted = await search.facets_async(opened, q, by=by, where=where)
    return {name: [Counted(value=one.value, count=one.count) for one in counts] for name, counts in counted.items()}


@app.get("/explain")
async def explain(search: Search, opened: Opened, q: Text, where: Chosen, limit: Limit = 3) -> list[Why]:
    """What the scores are made of: for those who run the shop."""
    return [Why.of(one) for one in await search.explain_async(opened, q, limit=limit, where=where)]


@app.get("/health")
async def health(opened: Opened) -> dict[str, str]:
    """Whether the database answers."""
    await opened.execute(text("select 1"))
    return {"status": "ok"}


@app.get("/", include_in_schema=False)
async def home() -> RedirectResponse:
    return RedirectResponse("/docs")


@app.exception_handler(HTTPException)
async def denied(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


@app.exception_handler(RequestValidationError)
async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
    said = (f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return JSONResponse({"error": "; ".join(said)}, 422)


@app.exception_handler(HybridSearchError)
async def refused(request: Request, error: HybridSearchError) -> JSONResponse:
    status = 400 if isinstance(error, QueryError) else 504 if isinstance(error, StatementTimeout) else 503
    return JSONResponse({"error": str(error) if status == 400 else "the search is not available"}, status)


@app.exception_handler(Full)
async def full(request: Request, error: Full) -> JSONResponse:
    return JSONResponse({"error": "too many searches at once: come back in a moment"}, 503, {"Retry-After": "1"})
