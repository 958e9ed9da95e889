"""The worker: from a committed row to its words and vectors; what it does with documents that cannot be encoded."""

import json
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import URL, Engine, create_engine, select, text
from sqlalchemy.orm import Session

from hybridsearch import ConfigurationError, EncoderError, EncoderMismatch, HybridSearch
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.freshness import failures, freshness, prometheus_text
from hybridsearch.queue import Limits, forget, retry
from hybridsearch.status import status
from hybridsearch.worker import Worker, running
from tests.support.afresh import differences
from tests.support.command_line import PROGRAM, ROOT, environment, run
from tests.support.encoders import BrokenEncoder, WordHashEncoder
from tests.support.models import articles, fill
from tests.support.workers import is_drained, until

APP = ("--app", "tests.support.shop")


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    """Four articles, none of them indexed."""
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    return shop


def test_a_committed_row_is_found_by_words_and_meaning_soon_after(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    with running(engine, [shop.index]):
        until(lambda: is_drained(engine, shop))
        session.add(shop.Article(id=9, title="Purple sofa", body=None))
        session.commit()
        began = time.monotonic()
        until(lambda: is_drained(engine, shop))
        assert time.monotonic() - began < 4  # it was woken: nobody looks by himself before
    assert HybridSearch(shop.index).search(session, "purple sofa")[0].ranks == {"dense": 1, "lexical": 1}
    session.commit()
    assert differences(engine, shop.index) == 0


def test_an_application_that_ends_does_not_wait_long_for_its_workers_batch(
    shop: SimpleNamespace, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    encode, begun, may_end = shop.index.encoder.encode_documents, threading.Event(), threading.Event()

    def encode_documents(texts: list[str]) -> object:
        begun.set()
        assert may_end.wait(30)
        return encode(texts)

    shop.index.encoder.encode_documents = encode_documents
    with running(engine, [shop.index], grace=0.3):
        assert begun.wait(20)
        ending = time.monotonic()
    assert time.monotonic() - ending < 5
    assert "the worker is left behind" in caplog.text
    may_end.set()
    until(lambda: is_drained(engine, shop))  # its batch is written all the same, while the process is there
    until(lambda: not any(thread.name == "hybridsearch-worker" for thread in threading.enumerate()))


def test_a_worker_that_does_its_work_once_leaves_nothing(shop: SimpleNamespace, engine: Engine) -> None:
    Worker(engine, [shop.index]).once()
    assert is_drained(engine, shop)
    assert differences(engine, shop.index) == 0


def test_a_difference_would_be_seen(shop: SimpleNamespace, engine: Engine) -> None:
    Worker(engine, [shop.index]).once()
    with engine.begin() as connection:
        connection.execute(text("update article_chunk set text = 'forged' where article_id = 1"))
        connection.execute(text("delete from article_chunk where article_id = 2"))
        connection.execute(text("update article_statistics set documents = 7"))
    assert differences(engine, shop.index) == 3


MOVED = """
    update article_posting set codes = array(select code + (1 << 11) from unnest(codes) as code)
    where term_id = (select id from article_term where term = 'chair')
"""
HALVED = """
    update article_posting set codes = array(select (code >> 11 << 11) + (code & 2047) / 2 from unnest(codes) as code)
    where term_id = (select id from article_term where term = 'oak')
"""


@pytest.mark.parametrize(("forged", "number"), [(MOVED, 4), (HALVED, 2)])
def test_a_difference_in_a_posting_would_be_seen(
    shop: SimpleNamespace, engine: Engine, forged: str, number: int
) -> None:
    Worker(engine, [shop.index]).once()
    upkeep(engine, shop.index)
    assert differences(engine, shop.index) == 0
    with engine.begin() as connection:
        assert connection.execute(text(forged)).rowcount == 1
    assert differences(engine, shop.index) == number


def poison(shop: SimpleNamespace, word: str, how: str) -> None:
    """Let the encoder fail at texts with a word."""
    encode = shop.index.encoder.encode_documents

    def encode_documents(texts: list[str]) -> object:
        shop.index.encoder.broken = how if any(word in one for one in texts) else None
        return encode(texts)

    shop.index.encoder.encode_documents = encode_documents


@pytest.mark.parametrize("how", ["raises", "nan", "count", "dimensions", "no array"])
def test_one_bad_document_is_set_aside_and_the_others_are_not(
    shop: SimpleNamespace, engine: Engine, session: Session, how: str
) -> None:
    poison(shop, "Blue table", how)
    Worker(engine, [shop.index], limits=Limits(attempts=1)).once()
    (failure,) = failures(session, shop.index)
    assert (failure.key, failure.attempts, failure.failed_at is not None) == ((2,), 1, True)
    assert failure.error.startswith('encoder "word-hash"')
    search = HybridSearch(shop.index)
    (hit,) = search.search(session, "people", legs=["lexical"])
    assert hit.document.id == 2
    assert {hit.document.id for hit in search.search(session, "chair", legs=["dense"])} == {1, 3, 4}
    assert freshness(session, shop.index).failed == 1
    session.commit()
    del shop.index.encoder.encode_documents
    shop.index.encoder.broken = None
    assert retry(session, shop.index) == 1
    session.commit()
    Worker(engine, [shop.index]).once()
    assert failures(session, shop.index) == []
    session.commit()
    assert differences(engine, shop.index) == 0


def test_a_bad_document_comes_again_later_each_time_and_then_no_more(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    poison(shop, "Blue table", "raises")
    queue = shop.index.queue
    waits = select((queue.c.next_at - text("clock_timestamp()")).label("wait"), queue.c.attempts)
    for attempt, (least, most) in enumerate([(0.5, 1.3), (2.9, 5), (12, 20), (50, 80)], 1):
        Worker(engine, [shop.index]).once()
        ((wait, attempts),) = session.execute(waits).all()
        assert attempts == attempt
        assert least < wait.total_seconds() < most
        session.execute(queue.update().values(next_at=text("clock_timestamp()")))
        session.commit()
    Worker(engine, [shop.index]).once()
    assert freshness(session, shop.index).failed == 1
    session.rollback()
    assert forget(session, shop.index) == 1
    session.commit()
    assert freshness(session, shop.index) == freshness(session, shop.index)
    assert freshness(session, shop.index).failed == 0


def test_a_document_that_was_set_aside_is_tried_again_when_it_changes(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    poison(shop, "Blue table", "raises")
    Worker(engine, [shop.index], limits=Limits(attempts=1)).once()
    session.get(shop.Article, 2).title = "Green table"
    session.commit()
    Worker(engine, [shop.index]).once()
    assert failures(session, shop.index) == []
    session.commit()
    assert differences(engine, shop.index) == 0


def test_an_encoder_that_fails_at_everything_sets_nothing_aside(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    shop.index.encoder.broken = "raises"
    for _ in range(7):
        with pytest.raises(EncoderError, match="fell over"):
            Worker(engine, [shop.index]).once()
    figures = freshness(session, shop.index)
    assert (figures.queued, figures.retrying, figures.failed) == (4, 4, 0)
    assert "fell over" in failures(session, shop.index)[0].error
    session.commit()
    shop.index.encoder.broken = None
    Worker(engine, [shop.index]).once()
    assert differences(engine, shop.index) == 0


def test_another_encoders_index_ends_the_worker(shop: SimpleNamespace, engine: Engine) -> None:
    backfill(engine, shop.index)
    other = articles(encoder=WordHashEncoder(revision="2"))
    with pytest.raises(EncoderMismatch, match="index again with rebuild"):
        Worker(engine, [other.index]).run()


def test_an_index_rebuilt_by_another_encoder_ends_the_worker_of_the_first(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    worker = Worker(engine, [shop.index])
    worker.once()
    other = articles(encoder=WordHashEncoder(revision="2"))
    backfill(engine, other.index, rebuild=True)
    session.add(shop.Article(id=9, title="Purple sofa", body=None))
    session.commit()
    with pytest.raises(EncoderMismatch, match="index again with rebuild"):
        worker.once()


def test_a_worker_needs_psycopg(shop: SimpleNamespace) -> None:
    engine = create_engine("postgresql+asyncpg://nobody@nowhere/none")
    with pytest.raises(ConfigurationError, match="listens through psycopg: the engine uses asyncpg"):
        Worker(engine, [shop.index])


def test_the_figures_of_an_index_are_metrics(shop: SimpleNamespace, session: Session) -> None:
    lines = prometheus_text([freshness(session, shop.index)]).splitlines()
    assert 'hybridsearch_changed{index="article"} 4.0' in lines
    assert 'hybridsearch_words_behind{index="article"} 0.0' in lines
    assert 'hybridsearch_failed{index="article"} 0.0' in lines
    assert any(line.startswith('hybridsearch_lag_seconds{index="article"} ') for line in lines)


@pytest.mark.parametrize(("rows", "is_cleaned"), [(500, True), (1500, False)])
def test_a_worker_drops_dead_postings_where_they_are_many(
    shop: SimpleNamespace, engine: Engine, session: Session, rows: int, is_cleaned: bool
) -> None:
    worker = Worker(engine, [shop.index])
    session.execute(
        text("insert into article select n, 'Chair ' || n % 50, 'Oak ' || n from generate_series(5, :rows) as n"),
        {"rows": rows},
    )
    session.commit()
    worker.once()
    session.execute(text("delete from article where id <= 300"))
    session.commit()
    worker.once()
    assert (status(session, shop.index).dead == 0) == is_cleaned
    session.rollback()
    assert differences(engine, shop.index) == 0


# The command


@pytest.fixture
def tables(engine: Engine) -> URL:
    from tests.support.shop import declared

    fill(engine, declared)
    return engine.url


def test_the_command_works_until_it_is_told_to_end(tables: URL, engine: Engine) -> None:
    command = [*PROGRAM, "worker", *APP]
    with subprocess.Popen(
        command, env=environment(tables), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        from tests.support.shop import declared

        until(lambda: is_drained(engine, declared) or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output, errors) == (0, "", "")
    assert is_drained(engine, declared)
    (figures,) = json.loads(run("status", *APP, "--json", database=tables).stdout)
    assert (figures["documents"], figures["queued"], figures["failed"], figures["workers"]) == (4, 0, 0, 0)
    assert figures["rate"] == pytest.approx(4 / 60)


def test_status_says_what_is_not_found_by_its_words(tables: URL, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("insert into article (id, title) select n, 'Sofa' from generate_series(10, 309) as n"))
    said = " ".join(run("status", *APP, database=tables).stdout.split())
    assert "article: 300 changed rows are not found by their words yet; start `hybridsearch worker`" in said


def test_the_command_once_then_retry_and_forget(tables: URL, tmp_path: Path) -> None:
    done = run("worker", "--once", *APP, database=tables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert run("retry", *APP, database=tables).stdout == "article: 0 documents are tried again\n"
    assert run("forget", *APP, database=tables).stdout == "article: 0 documents are tried no more\n"
    assert 'hybridsearch_queued{index="article"} 0.0' in run("status", "--prometheus", *APP, database=tables).stdout
    again = run("index", "--workers", "2", "--rebuild", *APP, database=tables)
    assert again.returncode == 0
    assert again.stderr == ""
