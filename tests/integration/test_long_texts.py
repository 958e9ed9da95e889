"""Texts that nobody writes are analysed in time that grows with their length; the terms are those of short ones."""

from collections import Counter

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

TERMS = text("select term, frequency from hybridsearch.terms('english', :content)")


def terms(session: Session, content: str) -> Counter[str]:
    return Counter({row.term: row.frequency for row in session.execute(TERMS, {"content": content})})


@pytest.mark.parametrize("length", [1, 2, 3, 499, 500, 501, 502, 999, 1000, 5001])
def test_a_run_without_spaces_is_all_its_pairs(session: Session, length: int) -> None:
    run = "".join(chr(0x4E00 + n * n % 97) for n in range(length))
    pairs = [run] if length == 1 else [run[n : n + 2] for n in range(length - 1)]
    assert terms(session, f"{run}，oak {run}") == Counter(pairs * 2) + Counter({"oak": 1})


@pytest.mark.parametrize("unit", ["椅子", "ภาษา", "1e5", "1.5x", "ab-12-", "a1", "C++", "a椅", "http://a.b/c?d=e&"])
def test_a_million_characters_are_no_trouble(session: Session, unit: str) -> None:
    # What takes the square of the length takes hours here.
    session.execute(text("set local statement_timeout = '60s'"))
    assert sum(terms(session, unit * (1_000_000 // len(unit))).values()) > 3000


def test_a_part_number_is_taken_apart_and_one_of_a_thousand_letters_is_not(session: Session) -> None:
    assert {"dv7-1211ea", "dv7", "1211ea", "dv", "1211", "ea"} <= terms(session, "DV7-1211ea").keys()
    long = "x9" * 600
    assert long in terms(session, f"a {long}")
