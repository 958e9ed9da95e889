"""docs/query.md: its blocks run as they stand, in order, in one program."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, text

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "query.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@pytest.fixture
def printed(bare_database: URL, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What each block printed."""
    monkeypatch.setenv("DATABASE_URL", bare_database.render_as_string(hide_password=False))
    blocks = [block for language, block in BLOCK.findall(TEXT) if language == "python"]
    names: dict[str, object] = {"__name__": "docs"}
    shown = []
    try:
        for block in blocks:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, "docs/query.md", "exec"), names)
            shown.append(out.getvalue())
    finally:
        for name in ("session", "engine"):
            if name in names:
                getattr(names[name], "close" if name == "session" else "dispose")()
    return shown


def test_every_block_runs_and_shows_what_it_is_there_for(printed: list[str]) -> None:
    assert len(printed) == 11
    assert all(printed[1:])
    whole = "".join(printed)
    assert "fused colour" in whole
    assert "matches views" in whole
    assert "1 5 0.9" in printed[-1]
    first, second = re.findall(r"\[[\d, ]+\]", printed[7])
    assert not set(re.findall(r"\d+", first)) & set(re.findall(r"\d+", second))


def test_the_policies_are_sql(engine: Engine) -> None:
    (policies,) = [block for language, block in BLOCK.findall(TEXT) if language == "sql"]
    with engine.connect() as connection:
        connection.execute(text("create table article (id integer primary key, author_id integer)"))
        for companion in ("article_chunk", "article_document"):
            connection.execute(text(f"create table {companion} (article_id integer)"))
        connection.execute(text("create role reader"))
        connection.exec_driver_sql(policies)
        connection.rollback()
