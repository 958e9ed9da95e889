"""The lexical index under writers, compaction, cleaning, killed clients: never a score that is not that of the rows."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, delete, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.backfill import Upkeep, upkeep
from hybridsearch.postings import clean, compact, pending_count, remove_documents
from hybridsearch.schema import migrate
from hybridsearch.status import status
from tests.support.models import articles
from tests.support.shelf import check, drop, put

ROOT = Path(__file__).resolve().parents[2]
WORDS = [f"w{first}{second}" for first in "abcdefgh" for second in "abcdefgh"]
COMMON = [1 / (place + 1) for place in range(len(WORDS))]


def article(key: int, chance: random.Random) -> dict[str, Any]:
    words = chance.choices(WORDS, COMMON, k=chance.choice((0, 5, 20, 50)))
    return {"id": key, "title": " ".join(words[:3]), "body": " ".join(words[3:])}


def merge(session: Session, shop: Any) -> None:
    while compact(session, shop.index):
        session.commit()


@pytest.fixture
def shop(engine: Engine) -> Any:
    declared = articles(config="simple")
    declared.Base.metadata.create_all(engine)
    return declared


def test_readers_see_one_snapshot_while_four_write_and_one_merges(engine: Engine, shop: Any) -> None:
    keys = iter(range(1, 10**9))
    stop = time.monotonic() + 12
    done: Counter[str] = Counter()
    failures: list[BaseException] = []

    def write(chance: random.Random, session: Session) -> None:
        mine: list[int] = []
        while time.monotonic() < stop:
            if chance.random() < 0.7 or not mine:
                rows = [article(next(keys), chance) for _ in range(chance.choice((1, 1, 5)))]
                put(session, shop, rows)
                mine += [row["id"] for row in rows]
            else:
                drop(session, shop, mine.pop(chance.randrange(len(mine))))
            session.commit()
            done["written"] += 1
            time.sleep(0.005)

    def upkeep(chance: random.Random, session: Session) -> None:
        while time.monotonic() < stop:
            done["merged"] += compact(session, shop.index, documents=chance.choice((50, 300)))
            session.commit()
            if chance.random() < 0.2:
                for gone in clean(session, shop.index):
                    session.commit()
                    done["cleaned"] += gone
            time.sleep(0.1)

    def read(chance: random.Random, session: Session) -> None:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        while time.monotonic() < stop:
            check(session, shop, chance.choices(WORDS[:40], k=chance.randint(1, 4)), chance.choice((1, 10, 100)))
            session.commit()
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            done["read"] += 1

    def run(work: Callable[[random.Random, Session], None], seed: int) -> None:
        try:
            with Session(engine) as session:
                work(random.Random(seed), session)
        except BaseException as error:
            failures.append(error)

    pool = [(write, seed) for seed in range(4)] + [(upkeep, 4)] + [(read, seed) for seed in range(5, 9)]
    threads = [threading.Thread(target=run, args=each) for each in pool]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(done[name] for name in ("written", "merged", "cleaned", "read")) > 10, done


COMPACT = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from hybridsearch.postings import compact
from tests.support.models import articles
with Session(create_engine(sys.argv[1])) as session:
    print(compact(session, articles(config="simple").index), flush=True)
    sys.stdin.readline()
    session.commit()
"""


def test_a_client_killed_before_its_commit_loses_nothing(engine: Engine, session: Session, shop: Any) -> None:
    chance = random.Random(7)
    put(session, shop, [article(key, chance) for key in range(1, 301)])
    session.commit()
    process = subprocess.Popen(
        [sys.executable, "-c", COMPACT, engine.url.render_as_string(hide_password=False)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "300\n"  # merged, not committed
        check(session, shop, WORDS[:3], 10)
        process.send_signal(signal.SIGKILL)
    session.commit()
    assert pending_count(session, shop.index) == 300
    merge(session, shop)  # waits until the server has noticed
    assert pending_count(session, shop.index) == 0
    check(session, shop, WORDS[:3], 1000)


def test_a_removal_that_meets_compaction_waits_and_is_not_lost(engine: Engine, session: Session, shop: Any) -> None:
    chance = random.Random(3)
    put(session, shop, [article(key, chance) for key in range(1, 51)])
    session.commit()
    assert compact(session, shop.index) == 50

    def remove() -> None:
        with Session(engine) as other, other.begin():
            drop(other, shop, 7)

    thread = threading.Thread(target=remove)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    session.commit()
    thread.join(60)
    assert not thread.is_alive()
    assert pending_count(session, shop.index) == 1
    check(session, shop, WORDS[:2], 100)
    merge(session, shop)
    check(session, shop, WORDS[:2], 100)


def test_cleaning_drops_what_was_removed_and_nothing_else(session: Session, shop: Any) -> None:
    chance = random.Random(5)
    put(session, shop, [article(key, chance) for key in range(1, 401)])
    session.commit()
    merge(session, shop)
    full = status(session, shop.index)
    assert (full.documents, full.pending, full.dead) == (400, 0, 0)
    for key in range(1, 401, 2):
        drop(session, shop, key)
    session.commit()
    assert status(session, shop.index).pending == 200
    merge(session, shop)
    merged = status(session, shop.index)
    assert 0.3 < merged.dead < 0.5  # of rare words nothing is left
    gone = sum(clean(session, shop.index))
    session.commit()
    after = status(session, shop.index)
    assert (after.dead, after.postings) == (0, merged.postings - gone)
    left = session.scalars(select(func.cardinality(shop.index.documents.c.terms))).all()
    assert after.postings == sum(left)
    for query in (WORDS[:1], WORDS[1:4], WORDS[30:]):
        check(session, shop, query, 10)


def test_a_merge_takes_removed_documents_out_of_lists(session: Session, shop: Any) -> None:
    postings, documents = shop.index.postings, shop.index.documents
    own = {key: WORDS[key - 1].strip("w") * 4 for key in range(1, 65)}  # a word of its own for each
    # Half of the frequencies are such as a code cannot give back.
    texts = {
        key: " ".join(["often"] * 900 * (key % 2) + ["rare", own[key], *["pair"] * (key < 3)]) for key in range(1, 41)
    }
    put(session, shop, [{"id": key, "title": "", "body": texts[key]} for key in texts])
    session.commit()
    merge(session, shop)
    for key in range(1, 31):
        drop(session, shop, key)
    put(session, shop, [{"id": 50, "title": "", "body": f"rare {own[50]} often"}])
    session.commit()
    merge(session, shop)
    left = select(documents.c.id, func.unnest(documents.c.terms).label("term")).subquery()
    counted = select(left.c.term, func.count()).group_by(left.c.term)
    held = select(postings.c.term_id, postings.c.documents).where(
        postings.c.documents == func.cardinality(postings.c.codes)
    )
    lists = sorted(session.execute(held))
    assert lists == sorted(session.execute(counted))
    assert session.scalar(select(func.count()).select_from(postings)) == len(lists)  # none of removals
    for query in (["often"], ["rare", own[31]], [own[7], "pair", own[50]]):
        check(session, shop, query, 100)


def test_upkeep_merges_and_cleans_everything_and_then_nothing(engine: Engine, session: Session, shop: Any) -> None:
    chance = random.Random(9)
    put(session, shop, [article(key, chance) for key in range(1, 201)])
    session.commit()
    assert upkeep(engine, shop.index) == Upkeep(merged=200, cleaned=0)
    for key in range(50, 60):
        drop(session, shop, key)
    session.commit()
    done = upkeep(engine, shop.index)
    assert (done.merged, done.cleaned > 0) == (10, True)
    assert upkeep(engine, shop.index) == Upkeep(merged=0, cleaned=0)
    check(session, shop, WORDS[:3], 10)


def test_the_columns_are_stored_as_the_format_wants_them(engine: Engine, session: Session, shop: Any) -> None:
    put(session, shop, [{"id": 1, "title": "red", "body": ""}])
    session.commit()
    storage = text("select attname, attstorage from pg_attribute where attrelid = 'article_posting'::regclass")
    stored = {row.attname: row.attstorage for row in session.execute(storage)}
    assert (stored["codes"], stored["weights"]) == ("m", "e")


def test_a_role_that_owns_nothing_may_index_and_search(engine: Engine, session: Session, shop: Any) -> None:
    put(session, shop, [{"id": 1, "title": "red", "body": ""}])
    role = f"writer_{random.randrange(10**9)}"
    session.execute(text(f"create role {role}"))
    session.execute(text(f"grant usage on schema hybridsearch to {role}"))
    session.execute(text(f"grant all on all tables in schema public to {role}"))
    session.commit()
    session.execute(text(f"set role {role}"))
    put(session, shop, [{"id": 2, "title": "red chair", "body": ""}])
    assert compact(session, shop.index) == 2
    check(session, shop, ["red", "chair"], 10)
    session.rollback()
    session.execute(text(f"drop owned by {role}"))
    session.execute(text(f"drop role {role}"))
    session.commit()


def test_a_read_only_transaction_can_search(session: Session, shop: Any) -> None:
    put(session, shop, [article(key, random.Random(key)) for key in range(1, 99)])
    compact(session, shop.index, documents=50)
    session.commit()
    session.execute(text("set transaction read only"))
    check(session, shop, WORDS[:3], 10)


def test_pgvector_may_stand_in_any_schema(bare_database: URL) -> None:
    engine = create_engine(bare_database)
    with engine.begin() as connection:
        connection.execute(text('create schema "More Extensions"'))
        connection.execute(text('create extension vector schema "More Extensions"'))
        connection.execute(text("""set local search_path = public, "More Extensions" """))
        migrate(connection)
        assert connection.scalar(text("show search_path")) == 'public, "More Extensions"'
        shop = articles(config="simple")
        shop.Base.metadata.create_all(connection)
        session = Session(connection)
        put(session, shop, [article(key, random.Random(key)) for key in range(1, 399)])
        merge_in_one_transaction(session, shop)
        session.flush()
        # As for a role whose path has no pgvector.
        connection.execute(text("set local search_path = public"))
        check(session, shop, WORDS[:3], 10)
        drop(session, shop, 3)
        merge_in_one_transaction(session, shop)
        assert sum(clean(session, shop.index)) > 0
        check(session, shop, WORDS[:3], 10)
    engine.dispose()


def merge_in_one_transaction(session: Session, shop: Any) -> None:
    assert compact(session, shop.index) > 0
    assert compact(session, shop.index) == 0


def test_upkeep_brings_documents_together_whose_numbers_are_far_apart(
    engine: Engine, session: Session, shop: Any
) -> None:
    chance = random.Random(13)
    number = shop.index.documents.c.id
    for first in (1, 101, 201):
        put(session, shop, [article(key, chance) for key in range(first, first + 100)])
        session.execute(select(func.setval(func.pg_get_serial_sequence("article_document", "id"), first * 1000)))
    session.commit()
    assert session.scalar(select(func.max(number) - func.min(number))) > 100_000
    session.commit()
    assert upkeep(engine, shop.index).merged == 300
    assert session.scalar(select(func.max(number) - func.min(number))) == 299
    assert status(session, shop.index).dead == 0
    check(session, shop, WORDS[:3], 10)


def test_updates_do_not_make_the_index_grow(engine: Engine, session: Session, shop: Any) -> None:
    chance = random.Random(11)
    for table in (shop.Article.__table__, *shop.index.tables):
        # Its snapshot keeps what a vacuum beside it would remove.
        session.execute(text(f"alter table {table.name} set (autovacuum_enabled = off)"))
    put(session, shop, [article(key, chance) for key in range(1, 1501)])
    session.commit()
    sizes = []
    for _ in range(5):
        for start in range(1, 1501, 300):
            part = shop.index.documents.c.article_id.between(start, start + 299)
            session.execute(delete(shop.Article).where(shop.Article.id.between(start, start + 299)))
            remove_documents(session, shop.index, session.scalars(select(shop.index.documents.c.id).where(part)).all())
            put(session, shop, [article(key, chance) for key in range(start, start + 300)])
            merge(session, shop)
        list(clean(session, shop.index))
        session.commit()
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in shop.index.tables:
                connection.exec_driver_sql(f"vacuum {table.name}")
        sizes.append(status(session, shop.index).bytes)
        session.commit()
    assert sizes[-1] <= 1.1 * sizes[1], sizes
    check(session, shop, WORDS[:3], 10)
