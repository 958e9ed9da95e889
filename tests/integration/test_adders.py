"""Two sessions that add documents at once: a common word makes neither wait, nor do new words but the same ones."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from hybridsearch.postings import compact
from tests.support.models import articles
from tests.support.shelf import check, drop, put


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles(config="simple")
    declared.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        add(session, declared, 1, "red chair")
        add(session, declared, 2, "red table")
        compact(session, declared.index)
    return declared


@pytest.fixture
def sessions(database: URL, shop: Any) -> Iterator[tuple[Session, Session]]:
    """Two, which give up after a second of waiting."""
    engine = create_engine(database, connect_args={"options": "-c lock_timeout=1s"})
    with Session(engine) as one, Session(engine) as two:
        yield one, two
    engine.dispose()


def add(session: Session, shop: Any, key: int, words: str) -> None:
    put(session, shop, [{"id": key, "title": words, "body": ""}])


@pytest.mark.parametrize(
    "words", [("red", "red"), ("red sofa", "red bench")], ids=["words that are there", "new words"]
)
def test_adders_of_different_documents_do_not_wait(
    sessions: tuple[Session, Session], shop: Any, words: tuple[str, str]
) -> None:
    for session, key, own in zip(sessions, (3, 4), words, strict=True):
        add(session, shop, key, own)  # neither is committed
    for session in sessions:
        session.commit()
    check(sessions[0], shop, ["red", "sofa", "bench"], 10)


def test_removing_and_adding_do_not_wait_for_each_other(sessions: tuple[Session, Session], shop: Any) -> None:
    one, two = sessions
    drop(one, shop, 1)
    add(two, shop, 3, "red chair")
    drop(two, shop, 2)
    one.commit()
    two.commit()
    check(one, shop, ["red", "chair", "table"], 10)


def test_adders_do_not_wait_for_a_merge(sessions: tuple[Session, Session], shop: Any) -> None:
    one, two = sessions
    add(one, shop, 3, "red sofa")
    one.commit()
    assert compact(one, shop.index) == 1
    add(two, shop, 4, "red sofa")
    two.commit()
    one.commit()
    check(one, shop, ["red", "sofa"], 10)


def test_who_brings_a_new_word_second_waits_for_the_first(sessions: tuple[Session, Session], shop: Any) -> None:
    one, two = sessions
    add(one, shop, 3, "red sofa")
    with pytest.raises(OperationalError, match="lock timeout"):
        add(two, shop, 4, "red sofa")
    two.rollback()
    one.commit()
    add(two, shop, 4, "red sofa")
    two.commit()
    check(one, shop, ["red", "sofa"], 10)
