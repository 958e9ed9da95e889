"""What updates leave behind, and how it goes: words of no document, numbers far apart, the space of dead rows."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, delete, func, not_, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.schema import CreateSchema

from hybridsearch import vacuum
from hybridsearch.idle import idle
from hybridsearch.lexical import lexical
from hybridsearch.postings import compact, dead_share, forget_terms, is_spread, is_word, strays, unused_share
from hybridsearch.vacuum import Sweeper
from hybridsearch.words import index_words
from hybridsearch.worker import Worker, running
from tests.support.afresh import differences
from tests.support.keyed import SHAPES, Shape, declare
from tests.support.models import articles
from tests.support.shelf import check, drop, put
from tests.support.workers import is_drained, until

ALL = range(1, 1000)


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles(config="simple")
    declared.Base.metadata.create_all(engine)
    return declared


def texts(session: Session, shop: Any, first: int, bodies: Iterable[str]) -> None:
    put(session, shop, [{"id": first + place, "title": "", "body": body} for place, body in enumerate(bodies)])
    session.commit()


def merge(session: Session, shop: Any) -> None:
    while compact(session, shop.index):
        session.commit()


def found(session: Session, shop: Any, query: str) -> list[int]:
    return sorted(row[0] for row in session.execute(lexical(shop.index, query, candidates=100)))


def words(session: Session, shop: Any) -> set[str]:
    return set(session.scalars(select(shop.index.terms.c.term).where(is_word(shop.index))))


def test_words_of_no_document_go_and_may_come_back(session: Session, shop: Any) -> None:
    texts(session, shop, 1, ["red chair", "red table", "blue sofa"])
    merge(session, shop)
    drop(session, shop, 2)
    session.commit()
    assert forget_terms(session, shop.index, ALL) == 0  # the removal waits, and knows its words by their numbers
    assert "table" in words(session, shop)
    merge(session, shop)
    assert words(session, shop) == {"red", "chair", "blue", "sofa"}
    texts(session, shop, 4, ["green"])
    texts(session, shop, 6, ["blue"])
    assert forget_terms(session, shop.index, ALL) == 0  # nor those of a document that waits
    assert set(session.scalars(select(shop.index.terms.c.id))) == {1, 2, 3, 4, 5}  # a number is used again
    texts(session, shop, 5, ["green table"])
    merge(session, shop)
    assert [found(session, shop, word) for word in ("table", "green", "red")] == [[5], [4, 5], [1]]


def test_words_that_somebody_is_writing_documents_with_stay(engine: Engine, session: Session, shop: Any) -> None:
    texts(session, shop, 1, ["red chair", "blue sofa"])
    merge(session, shop)
    drop(session, shop, 1)
    session.commit()
    put(session, shop, [{"id": 3, "title": "", "body": "chair"}])
    with Session(engine) as other:
        merge(other, shop)
        assert words(other, shop) == {"red", "chair", "blue", "sofa"}
        assert forget_terms(other, shop.index, ALL) == 0
        other.rollback()
        session.commit()
        assert forget_terms(other, shop.index, ALL) == 1
        other.commit()
    assert found(session, shop, "red chair") == [3]


def test_a_snapshot_that_shows_words_which_are_gone_cannot_write_documents_with_them(
    engine: Engine, session: Session, shop: Any
) -> None:
    texts(session, shop, 1, ["red chair", "blue sofa"])
    merge(session, shop)
    session.commit()
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    assert "chair" in words(session, shop)
    with Session(engine) as other:
        drop(other, shop, 1)
        other.commit()
        merge(other, shop)
        assert "chair" not in words(other, shop)
    with pytest.raises(OperationalError, match="could not serialize"):
        put(session, shop, [{"id": 3, "title": "", "body": "chair"}])
    session.rollback()
    texts(session, shop, 3, ["chair"])
    assert found(session, shop, "red chair") == [3]


def test_words_come_and_go_while_others_read(engine: Engine, shop: Any) -> None:
    pool = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
    stop, keys, done = time.monotonic() + 8, count(1), Counter[str]()
    failures: list[BaseException] = []

    def write(chance: random.Random, session: Session) -> None:
        mine: list[int] = []
        while time.monotonic() < stop:
            if len(mine) < 8 and chance.random() < 0.6:
                mine.append(next(keys))
                body = " ".join(chance.choices(pool, k=3))
                put(session, shop, [{"id": mine[-1], "title": "", "body": body}])
            elif mine:
                drop(session, shop, mine.pop(chance.randrange(len(mine))))
            session.commit()
            time.sleep(0.01)

    def upkeep(chance: random.Random, session: Session) -> None:
        while time.monotonic() < stop:
            merge(session, shop)
            forget_terms(session, shop.index, ALL)
            forgotten = select(func.count()).where(not_(is_word(shop.index)))
            done["forgotten"] += session.scalar(forgotten) or 0
            done["numbers"] = session.scalar(select(func.max(shop.index.terms.c.id))) or 0
            session.commit()
            time.sleep(0.05)

    def read(chance: random.Random, session: Session) -> None:
        while time.monotonic() < stop:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            check(session, shop, chance.choices(pool, k=4), 100)
            session.commit()
            done["read"] += 1

    def run(work: Callable[[random.Random, Session], None], seed: int) -> None:
        try:
            with Session(engine) as session:
                work(random.Random(seed), session)
        except BaseException as error:
            failures.append(error)

    works = [(write, 1), (write, 2), (write, 3), (upkeep, 4), (read, 5), (read, 6)]
    threads = [threading.Thread(target=run, args=each) for each in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(done["read"], done["forgotten"]) > 10, done
    assert done["numbers"] < 4 * len(pool), done


def test_a_worker_with_nothing_else_to_do_drops_what_is_of_no_use(engine: Engine, session: Session, shop: Any) -> None:
    often = " ".join(f"often{letter}" for letter in "abcdefgh")
    texts(session, shop, 1, [f"{often} own{chr(97 + key // 26)}{chr(97 + key % 26)}" for key in range(200)])
    merge(session, shop)
    begin = sessionmaker(engine).begin
    assert dead_share(session, shop.index) == unused_share(session, shop.index) == 0
    session.commit()
    assert list(idle(begin, shop.index)) == []
    for key in range(1, 121):
        drop(session, shop, key)
    session.commit()
    with Session(engine) as other:
        put(other, shop, [{"id": 1000, "title": "", "body": "somebody adds a document meanwhile"}])
        merge(session, shop)
    assert dead_share(session, shop.index) > 1 / 3 < unused_share(session, shop.index)
    session.commit()
    assert list(idle(begin, shop.index)) != []
    assert dead_share(session, shop.index) == unused_share(session, shop.index) == 0
    assert len(words(session, shop)) == 8 + 80
    session.commit()
    assert list(idle(begin, shop.index)) == []


def test_a_worker_gathers_documents_whose_numbers_are_far_apart(engine: Engine, session: Session, shop: Any) -> None:
    sequence = func.pg_get_serial_sequence(shop.index.documents.name, "id")
    number, key = shop.index.documents.c.id, shop.index.documents.c.article_id
    for first in (1, 101, 201):
        texts(session, shop, first, ["red chair"] * 99 + ["blue"])
        session.execute(select(func.setval(sequence, 100_000 + first)))
        if first == 101:
            merge(session, shop)
    session.execute(delete(shop.Article).where(shop.Article.id == 7))
    session.execute(update(shop.Article).where(shop.Article.id == 8).values(body="green"))
    assert strays(session, shop.index) == 100
    session.commit()
    for _ in idle(sessionmaker(engine).begin, shop.index):
        assert found(session, shop, "blue") == [100, 200, 300]
        session.commit()
    # Those that have changed wait for their words, which come under new numbers.
    assert set(session.scalars(select(key).where(number < 1000))) == {7, 8}
    assert found(session, shop, "blue") == [100, 200, 300]
    assert len(found(session, shop, "red chair")) == 100
    while index_words(session, shop.index):
        session.commit()
    merge(session, shop)
    assert not is_spread(session, shop.index)
    for query in (["green"], ["blue"], ["red", "chair"], ["red", "green", "blue"]):
        check(session, shop, query, 1000)
    counted = select(func.sum(shop.index.postings.c.documents))
    assert session.scalar(counted) == session.scalar(select(func.sum(func.cardinality(shop.index.documents.c.terms))))


def worn(session: Session, *, live: int) -> None:
    """Leave dead rows in the table of documents, as many as live ones, and let the server count them at once."""
    session.execute(text("alter table article_document set (autovacuum_enabled = off)"))
    session.execute(
        text("""
            insert into article_document (article_id, hash, length, terms)
            select n, sha256(n::text::bytea), 0, array_fill(n, array[50]) from generate_series(1, :live) as n
            on conflict (article_id) do update set length = article_document.length + 1"""),
        {"live": live},
    )
    session.execute(text("select pg_stat_force_next_flush()"))
    session.commit()


def test_the_space_of_dead_rows_is_used_again(engine: Engine, session: Session, shop: Any) -> None:
    sizes = []
    worn(session, live=20_000)
    for _ in range(6):
        assert Sweeper(engine).sweep(shop.index) == ["article_document"] * bool(sizes)
        sizes.append(session.scalar(text("select pg_total_relation_size('article_document')")))
        worn(session, live=20_000)
    assert sizes[-1] < 2.5 * sizes[0]


def test_a_worker_vacuums_after_a_merge(engine: Engine, session: Session, shop: Any) -> None:
    worn(session, live=20_000)
    worn(session, live=20_000)
    count = select(func.pg_stat_get_vacuum_count(text("'article_document'::regclass")))
    with running(engine, [shop.index]):
        session.add_all([shop.Article(id=100_000 + key, title="red chair", body="") for key in range(300)])
        session.commit()
        until(lambda: is_drained(engine, shop) and session.scalar(count))
        session.commit()
    assert session.scalar(count) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_upkeep_of_every_shape_of_key(
    engine: Engine, session: Session, shape: Shape, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = declare(shape)
    index = declared.index
    if shape.schema is not None:
        session.execute(CreateSchema(shape.schema))
        session.commit()
    index.metadata.create_all(engine)
    session.add_all(declared.rows())
    session.commit()
    Worker(engine, [index]).once()
    first = session.scalar(select(func.min(index.documents.c.id)))
    name = engine.dialect.identifier_preparer.format_table(index.documents)
    session.execute(select(func.setval(func.pg_get_serial_sequence(name, "id"), 100_000)))
    session.execute(update(declared.Item).where(declared.Item.title == "Blue table").values(body="Moved."))
    session.commit()
    Worker(engine, [index]).once()  # now it is far from all others, which follow
    assert not is_spread(session, index)
    assert session.scalar(select(func.min(index.documents.c.id))) > first
    assert differences(engine, index) == 0
    monkeypatch.setattr(vacuum, "SHARE", 0.0)
    monkeypatch.setattr(vacuum, "LEAST", 0)
    session.commit()
    assert len(Sweeper(engine).sweep(index)) == len(index.tables) - 1


@pytest.mark.parametrize("owner", [True, False])
def test_tables_of_somebody_else_are_left_to_autovacuum(
    database: URL, session: Session, shop: Any, owner: bool
) -> None:
    worn(session, live=20_000)
    worn(session, live=20_000)
    role = f"keeper_{random.randrange(10**9)}"
    session.execute(text(f"create role {role} login"))
    if owner:
        session.execute(text(f"grant all on schema public to {role}"))
        session.execute(text(f"alter table article_document owner to {role}"))
    session.commit()
    engine = create_engine(database.set(username=role))
    try:
        assert Sweeper(engine).sweep(shop.index) == ["article_document"] * owner
    finally:
        engine.dispose()
        session.execute(text(f"drop owned by {role}"))
        session.execute(text(f"drop role {role}"))
        session.commit()
