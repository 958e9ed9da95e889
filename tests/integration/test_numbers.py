"""Documents are numbered, each new content anew: numbers may run out, are told of before, and begin again."""

from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, func, insert, select, text, update
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session

from hybridsearch.backfill import backfill
from hybridsearch.display import advice
from hybridsearch.indexing import clear
from hybridsearch.status import status
from tests.support.models import articles, fill

LAST = 2**31 - 1


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles()
    fill(engine, declared)
    backfill(engine, declared.index)
    return declared


def numbered(session: Session, shop: Any, last: int) -> None:
    """Let so many numbers be taken, and change a row."""
    session.execute(select(func.setval(func.pg_get_serial_sequence(shop.index.documents.name, "id"), last)))
    session.execute(update(shop.Article).where(shop.Article.id == 1).values(body=f"row {last}"))
    session.commit()


def highest(session: Session, shop: Any) -> int:
    return session.scalar(select(func.max(shop.index.documents.c.id))) or 0


def test_an_index_that_is_built_again_begins_with_the_first_numbers(
    engine: Engine, session: Session, shop: Any
) -> None:
    numbered(session, shop, LAST)
    with pytest.raises(DataError, match="reached maximum value of sequence"):
        backfill(engine, shop.index)
    session.execute(insert(shop.Article), [{"id": 9, "title": "Sofa", "body": None}])
    session.commit()
    assert backfill(engine, shop.index, rebuild=True).written == 5
    assert highest(session, shop) == 5
    assert session.scalar(select(func.max(shop.index.terms.c.id))) < 40


def test_a_role_that_owns_nothing_goes_on_with_the_next_numbers(
    database: URL, engine: Engine, session: Session, shop: Any
) -> None:
    role = f"clearer_{engine.url.database}"
    session.execute(text(f"create role {role} login"))
    session.execute(text(f"grant usage on schema hybridsearch to {role}"))
    session.execute(text(f"grant all on all tables in schema public, hybridsearch to {role}"))
    session.commit()
    theirs = create_engine(database.set(username=role))
    with Session(theirs) as other, other.begin():
        clear(other, shop.index)
    backfill(theirs, shop.index)
    theirs.dispose()
    assert highest(session, shop) == 8
    session.execute(text(f"drop owned by {role}"))
    session.execute(text(f"drop role {role}"))
    session.commit()


def test_numbers_that_are_soon_used_up_are_told_of(engine: Engine, session: Session, shop: Any) -> None:
    for last, told in ((LAST * 3 // 4 - 10_000, False), (LAST * 3 // 4, True)):
        numbered(session, shop, last)
        backfill(engine, shop.index)
        found = status(session, shop.index)
        assert found.numbers == pytest.approx(last / LAST, abs=1e-6)
        said = " ".join(advice(found))
        assert bool(said) == told, said
    assert "75%" in said
    assert "hybridsearch index --rebuild" in said
