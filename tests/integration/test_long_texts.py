"""Texts that nobody writes are analysed in time that grows with their length; the terms are those of short ones."""

from collections import Counter

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.lexical import lexical
from hybridsearch.words import index_words
from tests.support.models import articles, fill

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


def test_what_is_too_long_for_a_term_is_passed_over(session: Session) -> None:
    # A btree takes 2,704 bytes, a tsvector words of 2,046.
    digits = "".join(f"{n * 7919 % 65536:04x}" for n in range(3000))
    assert terms(session, f"oak {digits} a1 {digits[:2046]}").keys() == {"oak", "a1", digits[:2046]}


def test_a_row_of_digits_without_end_is_indexed_and_holds_up_no_other(engine: Engine) -> None:
    noise = "".join(f"{n * 7919 % 65536:04x}" for n in range(3000))
    shop = articles()
    fill(engine, shop)
    with Session(engine) as session, session.begin():
        session.add_all(
            [shop.Article(id=5, title="Noise", body=f"elm {noise}"), shop.Article(id=6, title="Ash", body="")]
        )
    with Session(engine) as session, session.begin():
        index_words(session, shop.index)
    with Session(engine) as session:
        assert not session.scalar(select(func.count()).select_from(shop.index.changes))
        for word, number in (("elm", 5), ("ash", 6)):
            assert [row[0] for row in session.execute(lexical(shop.index, word, candidates=10))] == [number]
