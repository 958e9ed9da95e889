"""Each step of the upkeep looks at a part of the postings, and the parts are those that there are."""

import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch import postings
from hybridsearch.postings import Part, clean, clean_part, compact, forget_terms, parts
from hybridsearch.status import status
from tests.support.models import articles
from tests.support.shelf import check, drop, put

REMOVALS = -(2**31)


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles(config="simple")
    declared.Base.metadata.create_all(engine)
    return declared


def add(session: Session, shop: Any, keys: range, *, after: int) -> None:
    """Index documents with numbers after that one: two words that all have, one of a few, one of its own."""
    session.execute(select(func.setval(func.pg_get_serial_sequence("article_document", "id"), after)))
    few = "abcdefghijklmnop"
    rows = [
        {"id": key, "title": "red chair", "body": f"few{few[key % 16]} own{few[key % 16]}{few[key // 16]}"}
        for key in keys
    ]
    put(session, shop, rows)
    merge(session, shop)


def merge(session: Session, shop: Any) -> None:
    while compact(session, shop.index):
        session.commit()
    session.commit()


def test_cleaning_looks_at_the_ranges_that_there_are(session: Session, shop: Any) -> None:
    add(session, shop, range(1, 101), after=1)
    add(session, shop, range(101, 201), after=5_000_000)
    wanted = [Part(-1, 1, 100_000), Part(0, 1, 100_000), Part(312, 1, 100_000)]
    assert parts(session, shop.index) == wanted


def test_a_part_is_cleaned_and_nothing_else(session: Session, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "LISTS", 7)
    add(session, shop, range(1, 101), after=1)
    add(session, shop, range(101, 201), after=1_048_576 - 10)
    for key in range(1, 201):
        if key % 3:
            drop(session, shop, key)
    # The removals are not merged yet: so the lists have dead postings too.
    found = parts(session, shop.index)
    assert {part.range for part in found} == {-1, 0, 65}
    assert len(found) > 20
    random.Random(1).shuffle(found)
    gone = Counter[int]()
    for part in found:
        before = held(session, shop)
        gone[part.range] += clean_part(session, shop.index, part)
        after = held(session, shop)
        changed = {row for row in before.keys() | after.keys() if before.get(row) != after.get(row)}
        assert all(part.lowest <= term <= part.highest for term, _ in changed)
        assert all(place in (part.range, REMOVALS) or part.range == place >> 31 for _, place in changed)
        check(session, shop, ["red", "chair", "fewa"], 50)
    assert min(gone[-1], gone[0], gone[65]) > 50
    merge(session, shop)
    left = status(session, shop.index)
    assert (left.dead, left.documents) == (0, 66)
    assert left.postings == 4 * 66
    for _ in clean(session, shop.index):
        session.commit()
    assert 0 not in held(session, shop).values()
    assert min(place for _, place in held(session, shop)) > REMOVALS


def held(session: Session, shop: Any) -> dict[tuple[int, int], int]:
    """How many postings each row has."""
    rows = shop.index.postings.c
    return {(row[0], row[1]): row[2] for row in session.execute(select(rows.term_id, rows.place, rows.documents))}


def test_a_step_of_cleaning_reads_what_it_looks_at(session: Session, shop: Any) -> None:
    """In an index of 300,000 terms, each with a list, and one of a hundred with rows of ten ranges."""
    session.execute(
        text("""
            insert into article_posting (term_id, place, documents, codes, idf, weights)
            select term, -1, 1, array[1], null::real, null::sparsevec
            from generate_series(1, 300000) as term
            union all
            select term, range, 1, null, 1, '{1:1}/16000'
            from generate_series(1, 300000, 100) as term, generate_series(0, 9) as range
        """)
    )
    session.execute(text("analyze article_posting"))
    assert len(parts(session, shop.index)) == 3 * 11
    before = rows_read(session)
    assert clean_part(session, shop.index, Part(4, 100_001, 200_000)) == 1000
    assert rows_read(session) - before < 10_000


def rows_read(session: Session) -> int:
    """How many rows of the postings were ever read."""
    session.execute(text("select pg_stat_force_next_flush()"))
    session.commit()
    counted = "select seq_tup_read + idx_tup_fetch from pg_stat_all_tables where relname = 'article_posting'"
    found: int = session.scalar(text(counted))
    session.commit()
    return found


def test_words_are_forgotten_in_time_that_grows_with_their_number(session: Session, shop: Any) -> None:
    terms, pending = shop.index.terms, shop.index.pending
    session.execute(text("insert into article_term (term) select 'word' || n from generate_series(1, 60000) as n"))
    waiting = "array(select generate_series(first, 60000, 20))"
    session.execute(
        text(f"""
            insert into article_pending (document, sign, length, terms, frequencies)
            select first, 1, 1, {waiting}, {waiting} from generate_series(1, 10) as first
        """)
    )
    session.commit()
    session.execute(text("analyze article_term, article_pending"))
    session.execute(text("set local work_mem = '64kB'"))
    session.execute(text("set local statement_timeout = '20s'"))
    assert forget_terms(session, shop.index, range(1, 60_001)) == 30_000
    assert session.scalar(select(func.count()).select_from(terms).where(terms.c.term.like("word%"))) == 30_000
    assert session.scalar(select(func.count()).select_from(pending)) == 10
