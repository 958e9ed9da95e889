"""The first stage meets keys that are equal and not the same, and rows that cannot be read."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.words import index_words
from hybridsearch.worker import Worker
from tests.support.afresh import differences
from tests.support.keyed import Declared, Shape, declare


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
