"""docs/search-box.md and docs/web.md: their blocks run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import URL, Engine, insert
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.backfill import backfill
from tests.support.http_service import served
from tests.support.models import articles
from tests.support.small_shop import fill

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    {"id": 1, "title": "Forgotten password", "body": "Choose a new one."},
    {"id": 2, "title": "Passwords", "body": "A password is forgotten sooner than an oak chair in the garden."},
    {"id": 3, "title": "Opening hours", "body": "We are there on weekdays."},
]


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def test_the_search_box_does_what_it_says(engine: Engine) -> None:
    shop = articles(encoder="minilm")
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(shop.Article), ROWS)
        session.commit()
        backfill(engine, shop.index)
        names: dict[str, Any] = {"session": session, "search": HybridSearch(shop.index), "Article": shop.Article}
        seen: list[dict[str, Any]] = []
        for block in blocks("search-box.md", "python"):
            exec(compile(block, "search-box.md", "exec"), names)
            seen.append(dict(names))
    assert [hit.document.id for hit in seen[0]["hits"]] == [2]
    assert names["suggestion"] == "forgotten password"
    assert any("<mark>" in str(hit.snippet) for hit in seen[3]["hits"])
    assert '<em class="match">' in str(seen[4]["hits"][0].snippet)
    assert names["first"].legs["dense"].arithmetic == "1.0 / (60.0 + 1)"
    assert (names["lost"].stage, names["lost"].reason) == ("outvoted", "rank 2 of the fused list, after the limit of 1")
    assert names["hits"].degraded is None
    assert len(names["records"]) == 1


def test_what_may_be_set_is_a_setting() -> None:
    named = re.findall(r"HYBRIDSEARCH_\w+=[\w.]+", (ROOT / "docs" / "search-box.md").read_text(encoding="utf-8"))
    assert named
    for setting in named:
        name, _, value = setting.partition("=")
        done = subprocess.run(
            [sys.executable, "-c", "from hybridsearch.settings import from_environment; print(from_environment())"],
            env=os.environ | {name: value, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert f"{name.removeprefix('HYBRIDSEARCH_').lower()}=" in done.stdout


def test_ten_lines_of_starlette_are_a_service(bare_database: URL, tmp_path: Path) -> None:
    fill(bare_database)
    program, worker = blocks("web.md", "python")
    lines = [line for line in program.split("\n\n\n", 1)[1].splitlines() if line.strip()]
    assert len(lines) <= 10
    (tmp_path / "service.py").write_text(program + worker, encoding="utf-8")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    with served("service:app", bare_database, path="/search?q=bag", PYTHONPATH=paths) as address:
        found = httpx.get(f"{address}/search", params={"q": "bag for my notebook"}).json()
    assert found
    assert all(set(hit) == {"title", "snippet"} for hit in found)
