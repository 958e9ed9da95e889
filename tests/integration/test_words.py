"""The first stage meets keys that are equal and not the same, and rows that cannot be read."""

from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from hybridsearch import HybridSearch, SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.freshness import failures, freshness
from hybridsearch.lexical import lexical
from hybridsearch.page import Page
from hybridsearch.queue import Limits, forget, retry
from hybridsearch.words import fill_words, index_words
from hybridsearch.worker import Worker
from tests.support.afresh import differences
from tests.support.encoders import WordHashEncoder
from tests.support.keyed import SHAPES, Declared, Shape, declare
from tests.support.models import articles, fill


@pytest.fixture
def items(engine: Engine) -> Declared:
    """Items whose keys are equal whatever their case: A has its vectors, B waits for them."""
    with engine.begin() as connection:
        connection.execute(text("create extension citext"))
    items = declare(Shape("case", {"id": CITEXT()}, lambda n: ("AB"[n],)))
    items.Base.metadata.create_all(engine)
    with Session(engine) as session:
        for row in (items.row(0, "Red chair", None), items.row(1, "Oak shelf", None)):
            Worker(engine, [items.index]).once()
            session.add(row)
            session.commit()
        index_words(session, items.index)
        session.commit()
    return items


def test_a_row_that_comes_back_under_an_equal_key_is_one_document(items: Declared, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("delete from item"))
        connection.execute(text("insert into item (id, title) values ('a', 'Purple sofa'), ('b', 'Blue table')"))
        connection.execute(text("update item set title = 'Green table' where id = 'b'"))
    Worker(engine, [items.index]).once()
    assert differences(engine, items.index) == 0
    with Session(engine) as session:
        assert HybridSearch(items.index).search(session, "purple sofa")[0].ranks == {"dense": 1, "lexical": 1}
        assert HybridSearch(items.index).search(session, "chair shelf", legs=["lexical"]) == []


def test_keys_that_are_equal_and_cannot_be_read_are_one_error(items: Declared, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(DAMAGED))
        connection.execute(text("delete from item"))
        connection.execute(
            text("insert into item (id, title) values ('sofa', 'damaged sofa'), ('table', 'Blue table')")
        )
        connection.execute(text("insert into item_change (item_id) values ('{TABLE,SOFA}'), ('{Table}')"))
    Worker(engine, [items.index]).once()
    with Session(engine) as session:
        assert [failure.key for failure in failures(session, items.index)] == [("SOFA",)]
        assert HybridSearch(items.index).search(session, "blue table")[0].document.id == "table"


def test_a_step_is_one_statement(engine: Engine) -> None:
    shop = articles()
    fill(engine, shop)
    Worker(engine, [shop.index]).once()
    change(engine, "insert into article values (5, 'Stool')")
    change(engine, "update article set title = 'Green table' where id = 2")
    change(engine, "delete from article where id = 3")
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda connection, cursor, statement, *rest: sent.append(statement))
    with Session(engine) as session, session.begin():
        assert index_words(session, shop.index) == Page(read=3, removed=1)
    assert len(sent) == 1


# Rows that cannot be read

DAMAGED = """
    create or replace function hybridsearch.as_text(content text) returns text language plpgsql immutable as $$
    begin
        if content like '%damaged%' then
            raise data_exception using message = 'this text cannot be read';
        end if;
        return content;
    end
    $$
"""


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    """Four articles, indexed, and a server that cannot read the word `damaged`."""
    shop = articles()
    fill(engine, shop)
    Worker(engine, [shop.index]).once()
    with engine.begin() as connection:
        connection.execute(text(DAMAGED))
    return shop


def titles(session: Session, shop: SimpleNamespace, query: str, leg: str) -> set[str]:
    return {hit.document.title for hit in HybridSearch(shop.index).search(session, query, legs=[leg])}


def change(engine: Engine, statement: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement), values)


def test_rows_that_cannot_be_read_block_no_other_and_say_why(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, "insert into article select n, 'Stool ' || n from generate_series(5, 44) as n")
    change(engine, "update article set title = 'damaged ' || title where id in (2, 20, 21)")
    Worker(engine, [shop.index]).once()
    assert {failure.key for failure in failures(session, shop.index)} == {(2,), (20,), (21,)}
    first = failures(session, shop.index)[0]
    assert (first.attempts, first.failed_at is not None) == (0, True)
    assert first.error.startswith("its words cannot be indexed: DataException: this text cannot be read: ")
    assert freshness(session, shop.index).failed == 3
    assert len(titles(session, shop, "stool", "lexical")) == 10
    assert titles(session, shop, "stool 44", "lexical") >= {"Stool 44"}
    # Of what it was before nothing is left.
    assert titles(session, shop, "table", "lexical") == set()
    assert session.scalar(text("select count(*) from article_chunk where article_id = 2")) == 0


def test_a_row_that_could_not_be_read_is_found_again_when_it_changes(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, "update article set title = 'damaged' where id = 2")
    Worker(engine, [shop.index]).once()
    change(engine, "update article set title = 'Blue table' where id = 2")
    Worker(engine, [shop.index]).once()
    assert failures(session, shop.index) == []
    assert titles(session, shop, "table", "lexical") == {"Blue table"}
    session.rollback()
    assert differences(engine, shop.index) == 0


def test_a_row_that_could_not_be_read_is_tried_again(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    change(engine, "update article set title = 'damaged' where id = 2")
    for mended in (False, True):
        if mended:
            change(engine, DAMAGED.replace("%damaged%", ""))
        Worker(engine, [shop.index]).once()
        assert retry(session, shop.index) == (not mended)
        session.commit()
    assert failures(session, shop.index) == []
    session.rollback()
    assert differences(engine, shop.index) == 0


def test_a_row_that_is_given_up_waits_for_its_next_change_or_the_next_look_at_every_row(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, "update article set title = 'damaged' where id = 2")
    Worker(engine, [shop.index]).once()
    assert forget(session, shop.index) == 1
    session.commit()
    backfill(engine, shop.index)
    assert [failure.key for failure in failures(session, shop.index)] == [(2,)]


def test_a_function_that_fails_at_every_row_is_the_fault_of_none(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, DAMAGED.replace("data_exception", "raise_exception"))
    change(engine, "update article set title = 'damaged ' || title")
    with pytest.raises(DBAPIError, match="this text cannot be read"):
        Worker(engine, [shop.index]).once()
    assert failures(session, shop.index) == []
    assert freshness(session, shop.index).changed == 4


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_row_that_cannot_be_read_is_found_whatever_its_key(shape: Shape, engine: Engine) -> None:
    items = declare(shape)
    with Session(engine) as session:
        if shape.schema:
            session.execute(CreateSchema(shape.schema))
        items.Base.metadata.create_all(session.connection())
        session.execute(text(DAMAGED))
        rows = items.rows()
        rows[2].title = "damaged chair"
        session.add_all(rows)
        session.commit()
        index_words(session, items.index)
        assert [failure.key for failure in failures(session, items.index)] == [items.key(rows[2])]
        found = HybridSearch(items.index).search(session, "chair", legs=["lexical"])
        assert [items.key(hit.document) for hit in found] == [items.key(rows[0])]


def test_many_rows_that_cannot_be_read_block_nothing_behind_them(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, "update article set title = 'damaged ' || title")
    change(engine, "insert into article values (5, 'Stool')")
    while index_words(session, shop.index, limit=4):
        pass
    assert freshness(session, shop.index).failed == 4
    assert titles(session, shop, "stool", "lexical") == {"Stool"}


def test_a_lock_that_is_not_to_be_had_is_the_fault_of_no_row(shop: SimpleNamespace, engine: Engine) -> None:
    change(engine, "update article set title = 'Green table' where id = 2")
    impatient = create_engine(engine.url, connect_args={"options": "-c lock_timeout=100ms"})
    with engine.connect() as connection, Session(impatient) as session:
        connection.execute(text("lock table article_pending in share mode"))
        with pytest.raises(OperationalError, match="lock timeout"):
            index_words(session, shop.index)
        session.rollback()
        assert failures(session, shop.index) == []
    impatient.dispose()


def test_a_fill_that_meets_a_row_that_cannot_be_read_leaves_it_to_the_steps(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    change(engine, "insert into article select n, 'Stool ' || n from generate_series(5, 5999) as n")
    assert fill_words(session, shop.index) > 5000
    session.rollback()
    change(engine, "update article set title = 'damaged' where id = 3000")
    assert fill_words(session, shop.index) == 0
    assert session.scalar(text("select count(*) from article_document")) == 4


def test_a_value_that_python_cannot_hold_blocks_no_other(engine: Engine, session: Session) -> None:
    class Base(DeclarativeBase):
        pass

    class Event(Base):
        __tablename__ = "event"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        day: Mapped[date | None]

    index = SearchIndex(Event, ["title", "day"], encoder=WordHashEncoder())
    Base.metadata.create_all(engine)
    change(engine, "insert into event values (1, 'Fair', '2026-05-01'), (2, 'Doomsday', 'infinity')")
    Worker(engine, [index], limits=Limits(attempts=1)).once()
    (failure,) = failures(session, index)
    assert failure.key == (2,)
    assert "its texts cannot be read: DataError: date too large" in failure.error
    assert len(HybridSearch(index).search(session, "fair", legs=["dense"])) == 1
    for number, word in ((1, "fair"), (2, "doomsday")):
        assert [row[0] for row in session.execute(lexical(index, word, candidates=10))] == [number]
    with pytest.raises(DataError, match="date too large"):  # of the driver, which cannot make it
        HybridSearch(index).search(session, "doomsday", legs=["lexical"])
