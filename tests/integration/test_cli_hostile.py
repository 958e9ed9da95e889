"""Hostile arguments on the command line: an answer, or an error in one line; never a traceback.

In this process, by the function that the command `hybridsearch` calls: a process for each case would take seconds.
"""

import os
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from hybridsearch.backfill import backfill
from hybridsearch.cli import main
from tests.support.command_line import environment
from tests.support.models import fill
from tests.support.shop import declared

CASES = int(os.environ.get("HYBRIDSEARCH_FUZZ", "60"))
hostile = settings(max_examples=CASES)

# What the operating system can hand over: no NUL, and bytes that are no UTF-8 as surrogates (PEP 383).
texts = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
bytes_ = st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
odd = st.sampled_from(
    [
        "", " ", "red chair", '"red chair" -oak', "-red", "--", "--help", "-n", "-1", "0", "1001", "1e3", "9" * 400,
        "٣", "NaN", "inf", "a\nb", "a" * 10_001, "[bold]red[/bold]", "[/]", "\x1b[31m", "\r\n", "\udcff", ".", "..",
        "a.b", "tests.support.shop", "/", "'", "%s", "1,2", "article", "\u202e",
    ]
)  # fmt: skip
arguments = st.text(texts | bytes_, max_size=30) | odd
some = st.sampled_from(["1", "3", "17"]) | arguments
options = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["--limit", "-n", "--document"]), some),
        st.tuples(st.sampled_from(["--index", "--app"]), arguments),
        st.tuples(st.sampled_from(["--json", "--help"])),
        st.tuples(arguments),
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def shop(shared_engine: Engine) -> Iterator[None]:
    """The environment of a shell, for an application that is indexed."""
    fill(shared_engine, declared)
    backfill(shared_engine, declared.index)
    with patch.dict(os.environ, environment(shared_engine.url), clear=True), patch.object(sys, "path", sys.path[:]):
        yield


def ran(*given: str) -> tuple[object, str, str]:
    """Exit status, standard output and standard error of the command; the streams are as those of a process."""
    out = TextIOWrapper(BytesIO(), encoding="utf-8")
    err = TextIOWrapper(BytesIO(), encoding="utf-8", errors="backslashreplace")
    with patch.multiple(sys, argv=["hybridsearch", *given], stdout=out, stderr=err), pytest.raises(SystemExit) as ended:
        main()
    for stream in (out, err):
        stream.flush()
    return (ended.value.code or 0, *(stream.buffer.getvalue().decode() for stream in (out, err)))


@hostile
@example("search", "--", [("--app", "tests.support.shop")])
@given(command=st.sampled_from(["search", "explain"]), query=arguments, options=options)
def test_searches(shop: None, command: str, query: str, options: list[tuple[str, ...]]) -> None:
    flat = [part for option in options for part in option]
    status, out, err = ran(command, "--app", "tests.support.shop", query, *flat)
    assert status in (0, 1, 2)
    if status == 1:
        assert out == ""
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1


@hostile
@given(
    command=st.sampled_from(["status", "retry", "forget", "migrate", "index"]),
    name=st.sampled_from(["--index", "--app", "--database", "--throttle", "--batch"]),
    value=arguments,
)
def test_upkeep(shop: None, command: str, name: str, value: str) -> None:
    status, _, err = ran(command, *(["--app", "tests.support.shop"] * (command != "migrate")), name, value)
    assert status in (0, 1, 2)
    assert status != 1 or (err.startswith("error: ") and len(err.splitlines()) == 1)


def test_an_answer_is_given(shop: None) -> None:
    for command in ("search", "explain"):
        status, out, _ = ran(command, "--app", "tests.support.shop", "red chair", "--json")
        assert status == 0
        assert out.startswith("[")
