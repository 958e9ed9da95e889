"""The FastAPI example, over a real socket: what it answers, what it refuses, and that it stands some load."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session

from benchmarks.load import drive
from examples.fastapi_app.gate import Full, Gate
from examples.shop.models import Product
from tests.support.http_service import ROOT, served
from tests.support.locks import locked
from tests.support.small_shop import fill


@pytest.fixture(scope="module")
def shop(admin: Any, server: URL) -> Iterator[URL]:
    """The address of a database with the example's products, indexed."""
    name = f"hybridsearch_shop_{os.getpid()}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create database {name}")
    address = server.set(database=name)
    fill(address)
    yield address
    with admin.connect() as connection:
        connection.exec_driver_sql(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def service(shop: URL) -> Iterator[httpx.Client]:
    with (
        served("benchmarks.load_app:app", shop, SHOP_POOL="4", SHOP_DEADLINE="60") as address,
        httpx.Client(base_url=address) as client,
    ):
        yield client


def test_search_gives_products_with_snippets(service: httpx.Client) -> None:
    answer = service.get("/search", params={"q": "brother tn-2110 toner", "limit": 3}).json()
    assert len(answer["hits"]) == 3
    assert answer["hits"][0]["title"].startswith("Brother TN-2110")
    assert set(answer["hits"][0]["ranks"]) == {"dense", "lexical"}
    assert any("<mark>" in hit["snippet"] for hit in answer["hits"])
    assert (answer["degraded"], answer["suggestion"]) == (False, None)


def test_operators_filters_and_suggestions_reach_the_search(service: httpx.Client) -> None:
    titles = [hit["title"] for hit in service.get("/search", params={"q": '"laser toner" -brother'}).json()["hits"]]
    assert not any("brother" in title.lower() for title in titles)
    cheap = service.get("/search", params={"q": "bag", "dearest": 50, "limit": 50}).json()["hits"]
    assert cheap
    assert all(float(hit["price"]) <= 50 for hit in cheap)
    brand = cheap[0]["brand"]
    hits = service.get("/search", params={"q": "bag", "brand": brand}).json()["hits"]
    assert {hit["brand"] for hit in hits} == {brand}
    assert service.get("/search", params={"q": "bluetoth speker"}).json()["suggestion"].startswith("bluetooth speaker")


def test_similar_products_and_counts(service: httpx.Client) -> None:
    first = service.get("/search", params={"q": "laptop bag", "limit": 1}).json()["hits"][0]
    like = service.get(f"/products/{first['id']}/similar", params={"limit": 5}).json()["hits"]
    assert len(like) == 5
    assert first["id"] not in {hit["id"] for hit in like}
    counted = service.get("/facets", params={"q": "laptop bag", "dearest": 50}).json()
    assert set(counted) == {"brand", "price"}
    assert all(one["count"] > 0 for one in counted["brand"])
    cheap = [one["count"] for one in counted["price"]]
    assert sum(cheap[:2]) > 0 == sum(cheap[3:])


def test_explain_adds_up(service: httpx.Client) -> None:
    (first,) = service.get("/explain", params={"q": "laptop bag", "limit": 1}).json()
    assert sum(leg["share"] for leg in first["legs"].values()) == pytest.approx(first["score"], abs=1e-12)


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/search", {}, 422),
        ("/search", {"q": ""}, 422),
        ("/search", {"q": "x" * 201}, 422),
        ("/search", {"q": "bag", "limit": 51}, 422),
        ("/search", {"q": "bag", "limit": "many"}, 422),
        ("/search", {"q": "bag", "dearest": "nan"}, 422),
        ("/search", {"q": "bag\0"}, 400),
        ("/search", {"q": "   "}, 400),
        ("/search", {"q": "'; drop table product; --"}, 200),
        ("/search", {"q": "bag", "brand": "'\"\\%"}, 200),
        ("/products/0/similar", {}, 422),
        ("/products/99999999/similar", {}, 404),
        ("/nothing", {}, 404),
    ],
)
def test_what_it_refuses(service: httpx.Client, path: str, params: dict[str, Any], status: int) -> None:
    answer = service.get(path, params=params)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    if status != 200:
        assert list(answer.json()) == ["error"]
        assert answer.json()["error"].startswith(
            ("the query", "there is no product", "Not Found", "q: ", *params, "key: ")
        )


def test_its_interface_is_described(service: httpx.Client) -> None:
    described = service.get("/openapi.json").json()
    assert {"/search", "/facets", "/products/{key}/similar", "/explain", "/health"} <= set(described["paths"])
    for path in described["paths"].values():
        assert all(parameter["description"] for parameter in path["get"].get("parameters", ()))
        assert path["get"]["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert service.get("/", follow_redirects=True).headers["content-type"].startswith("text/html")
    assert service.get("/docs").status_code == 200


def test_under_load_every_request_is_answered(service: httpx.Client) -> None:
    outcome = asyncio.run(drive(str(service.base_url), clients=10, seconds=3))
    assert outcome.failures == []
    assert set(outcome.statuses) == {200}
    assert sum(outcome.statuses.values()) > 10
    assert service.get("/probe").json()["count"] > 0


def test_with_a_worker_in_a_thread_a_new_product_is_found(shop: URL, admin: Any) -> None:
    with served("examples.fastapi_app.app:app", shop, SHOP_WORKER="thread", SHOP_DEADLINE="60") as address:
        engine = create_engine(shop)
        with Session(engine) as session, session.begin():
            given = {"id": 1, "title": "Zymurgist's kettle", "brand": "Nobody", "price": 1, "attributes": {}}
            session.add(Product(**given))
        engine.dispose()
        for _ in range(200):
            hits = httpx.get(f"{address}/search", params={"q": "zymurgist", "limit": 1}).json()["hits"]
            if hits and hits[0]["id"] == 1 and set(hits[0]["ranks"]) == {"dense", "lexical"}:
                return
            time.sleep(0.1)
        raise AssertionError("it was not found by its vector and its words within 20 s")


def test_without_a_database_it_says_that_it_is_not_available(shop: URL) -> None:
    # The service is up; only its database is not.
    script = "import asyncio, examples.fastapi_app.app as m, httpx\n" + (
        "async def main():\n"
        "    async with m.lifespan(m.app):\n"
        "        transport = httpx.ASGITransport(m.app, raise_app_exceptions=False)\n"
        "        async with httpx.AsyncClient(transport=transport, base_url='http://test') as http:\n"
        "            answer = await http.get('/search', params={'q': 'bag'})\n"
        "            print(answer.status_code, answer.json()['error'])\n"
        "asyncio.run(main())\n"
    )
    environment = os.environ | {"DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "503 the search is not available\n"


BROKEN = """
import examples.shop.models as shop

def fail(texts):
    raise ConnectionError("the encoder is away")

shop.products.encoder.encode_queries = fail
from examples.fastapi_app.app import app
"""


def test_it_starts_and_answers_by_words_while_the_encoder_is_away(shop: URL, tmp_path: Path) -> None:
    (tmp_path / "broken_shop.py").write_text(BROKEN)
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    with served("broken_shop:app", shop, SHOP_DEADLINE="60", PYTHONPATH=paths) as address:
        answer = httpx.get(f"{address}/search", params={"q": "laptop bag"}).json()
        assert answer["hits"]
        assert answer["degraded"] is True
        assert {tuple(hit["ranks"]) for hit in answer["hits"]} == {("lexical",)}
        assert httpx.get(f"{address}/facets", params={"q": "laptop bag"}).json()["brand"]
        assert set(httpx.get(f"{address}/explain", params={"q": "laptop bag"}).json()[0]["legs"]) == {"lexical"}
        like = httpx.get(f"{address}/products/{answer['hits'][0]['id']}/similar").json()
        assert (len(like["hits"]), like["degraded"]) == (10, False)


def test_every_endpoint_that_searches_has_the_deadline(shop: URL) -> None:
    engine = create_engine(shop)
    with served("examples.fastapi_app.app:app", shop, SHOP_DEADLINE="0.5") as address:
        key = httpx.get(f"{address}/search", params={"q": "bag", "limit": 1}).json()["hits"][0]["id"]
        with locked(engine, "product_chunk, product_posting"):
            for path in ("/search?q=bag", "/facets?q=bag", "/explain?q=bag", f"/products/{key}/similar"):
                assert httpx.get(f"{address}{path}", timeout=60).status_code == 504
    engine.dispose()


def test_the_gate_lets_in_as_many_as_there_are_places() -> None:
    async def main() -> None:
        gate = Gate(places=2, waiting=3, patience=5)
        inside = most = 0

        async def request() -> bool:
            nonlocal inside, most
            try:
                async with gate.place():
                    inside += 1
                    most = max(most, inside)
                    await asyncio.sleep(0.05)
                    inside -= 1
                    return True
            except Full:
                return False

        served = await asyncio.gather(*(request() for _ in range(8)))
        assert most == 2
        assert served.count(False) == 8 - 2 - 3
        narrow = Gate(places=1, waiting=1, patience=0.01)
        async with narrow.place():
            with pytest.raises(Full):
                await narrow.place().__aenter__()

    asyncio.run(main())
