"""The HNSW graph over a large first load is built after it; small ones, and what comes later, let it grow."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, func, insert, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.backfill import backfill
from hybridsearch.cli_upkeep import _announced
from hybridsearch.freshness import freshness, prometheus_text
from hybridsearch.graph import LOADS, WORTH, Estimate, abandoned, build, estimate, state
from hybridsearch.page import Page
from hybridsearch.presence import present_workers
from hybridsearch.state import lock
from hybridsearch.status import status
from hybridsearch.worker import Worker
from tests.support.command_line import run
from tests.support.models import articles, fill
from tests.support.workers import until

GRAPH = "select indisvalid from pg_index where indexrelid = to_regclass('article_chunk_dense_idx')"


class Killed(Exception):
    pass


def is_there(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text(GRAPH)))


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    made = articles()
    made.Base.metadata.create_all(engine)
    return made


def add(engine: Engine, shop: SimpleNamespace, first: int, count: int) -> None:
    with Session(engine) as session, session.begin():
        rows = [{"id": n, "title": f"chair {n}", "body": None} for n in range(first, first + count)]
        session.execute(insert(shop.Article), rows)


def test_after_a_large_load_the_graph_is_built_and_one_that_was_killed_before_is_built_by_the_next(
    engine: Engine, shop: SimpleNamespace
) -> None:
    add(engine, shop, 0, WORTH)

    def die(graph: Estimate) -> None:
        assert graph.vectors == WORTH
        assert 1_000 * WORTH > graph.bytes > 64 * WORTH
        raise Killed

    postponed: list[Estimate] = []
    with pytest.raises(Killed):
        backfill(engine, shop.index, on_postponed=postponed.append, on_graph=die)
    assert [graph.vectors for graph in postponed] == [WORTH]
    assert not is_there(engine)
    with Session(engine) as session:
        assert HybridSearch(shop.index).search(session, "chair 77", legs=["dense"])[0].document.id == 77
        assert status(session, shop.index).hnsw == "missing"
        assert 'hybridsearch_hnsw{index="article"} 0.0' in prometheus_text([freshness(session, shop.index)])
    graphs: list[Estimate] = []
    assert backfill(engine, shop.index, on_postponed=postponed.append, on_graph=graphs.append).written == 0
    assert len(postponed) == 1
    assert len(graphs) == 1
    assert is_there(engine)
    add(engine, shop, WORTH, 10)
    backfill(engine, shop.index, on_graph=graphs.append)
    assert len(graphs) == 1
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(shop.index.chunks)) == WORTH + 10
        assert (
            HybridSearch(shop.index).search(session, f"chair {WORTH + 5}", legs=["dense"])[0].document.id == WORTH + 5
        )


def test_the_command_says_what_memory_a_build_takes_and_what_to_do_where_there_is_less(capsys: Any) -> None:
    _announced("building the HNSW index of", Estimate(vectors=50_000, bytes=64 * 2**20, memory=64 * 2**20))
    said = " ".join(capsys.readouterr().out.split())
    assert said == "building the HNSW index of 50,000 vectors: about 64 MB of memory"
    _announced("building the HNSW index of", Estimate(vectors=50_000, bytes=64 * 2**20 + 1, memory=64 * 2**20))
    said = " ".join(capsys.readouterr().out.split())
    assert "maintenance_work_mem is 64 MB" in said
    assert "set maintenance_work_mem = '65MB', and start again" in said


def test_a_small_load_lets_the_graph_grow(engine: Engine) -> None:
    made = articles()
    fill(engine, made)
    backfill(engine, made.index, on_graph=lambda graph: pytest.fail("built"))
    assert is_there(engine)


def test_what_a_failed_build_left_behind_is_replaced(engine: Engine) -> None:
    made = articles()
    fill(engine, made)
    with engine.begin() as connection:
        connection.execute(
            text("update pg_index set indisvalid = false where indexrelid = to_regclass('article_chunk_dense_idx')")
        )
    graphs: list[Estimate] = []
    backfill(engine, made.index, on_graph=graphs.append)
    assert [graph.vectors for graph in graphs] == [4]
    assert is_there(engine)


@pytest.fixture
def without(engine: Engine) -> SimpleNamespace:
    """Four articles, indexed; the graph is gone."""
    made = articles()
    fill(engine, made)
    backfill(engine, made.index)
    with engine.begin() as connection:
        connection.execute(text("drop index article_chunk_dense_idx"))
    return made


def test_a_worker_builds_a_graph_that_is_missing(engine: Engine, without: SimpleNamespace) -> None:
    Worker(engine, [without.index]).once()
    with Session(engine) as session:
        assert (state(session, without.index), freshness(session, without.index).hnsw) == ("valid", True)


def test_a_build_that_failed_is_not_tried_again_at_once(engine: Engine, without: SimpleNamespace) -> None:
    forbidden = """
        create function forbidden() returns event_trigger language plpgsql as
        $$ begin raise 'no index today'; end $$;
        create event trigger forbidden on ddl_command_start when tag in ('CREATE INDEX') execute function forbidden();
    """
    with engine.begin() as connection:
        connection.execute(text(forbidden))
    worker = Worker(engine, [without.index])
    with pytest.raises(DBAPIError, match="no index today"):
        worker.once()
    worker.once()
    with engine.begin() as connection:
        connection.execute(text("drop event trigger forbidden"))
    worker.once()
    assert not is_there(engine)
    Worker(engine, [without.index]).once()
    assert is_there(engine)


def test_a_worker_leaves_the_graph_to_whoever_fills_the_index(engine: Engine, without: SimpleNamespace) -> None:
    seen = []

    def work(page: Page) -> None:
        Worker(engine, [without.index]).once()
        seen.append(is_there(engine))

    backfill(engine, without.index, on_page=work)
    assert not any(seen)
    assert is_there(engine)


def test_a_worker_leaves_a_load_that_was_stopped_half_way_to_the_next(engine: Engine, without: SimpleNamespace) -> None:
    with engine.begin() as connection:
        connection.execute(text("alter table article disable trigger user"))
        connection.execute(text("insert into article select n, 'Chair' from generate_series(5, 9) as n"))
        connection.execute(text("alter table article enable trigger user"))
    Worker(engine, [without.index]).once()
    assert not is_there(engine)
    backfill(engine, without.index)
    assert is_there(engine)


def test_a_worker_whose_role_does_not_own_the_chunks_builds_none(engine: Engine, without: SimpleNamespace) -> None:
    with Session(engine) as session:
        session.execute(text(f"create role clerk_{engine.url.database}"))
        assert abandoned(session, without.index) == estimate(session, without.index)
        session.execute(text(f"grant select on all tables in schema public to clerk_{engine.url.database}"))
        session.execute(text(f"set local role clerk_{engine.url.database}"))
        assert abandoned(session, without.index) is None


def test_a_graph_is_built_once_and_a_worker_that_is_stopped_leaves_it_to_another(
    engine: Engine, without: SimpleNamespace, database: URL
) -> None:
    worker = Worker(engine, [without.index], poll=0.05)
    running = threading.Thread(target=worker.run)
    reader = create_engine(database, isolation_level="REPEATABLE READ")
    with reader.connect() as connection, Session(engine) as session:
        connection.execute(text("select count(*) from article"))  # whose end the build waits for

        def is_(wanted: str) -> bool:
            session.rollback()
            return state(session, without.index) == wanted

        running.start()
        until(lambda: is_("building"))
        assert not build(engine, without.index)
        worker.stop()
        running.join(60)
        assert not running.is_alive()
        until(lambda: is_("unfinished"))
    reader.dispose()
    said = run("status", "--app", "tests.support.shop", database=database).stdout
    assert "article has no HNSW index: searches by meaning compare all 4 chunks; `hybridsearch index`" in " ".join(
        said.split()
    )
    Worker(engine, [without.index]).once()
    assert build(engine, without.index)
    assert is_there(engine)


def test_who_builds_next_is_not_told_of_a_builder_that_is_done(engine: Engine, without: SimpleNamespace) -> None:
    for _ in range(20):
        with engine.connect(), engine.connect():
            pass  # two connections are ready in the pool: the second build does not wait for one
        assert build(engine, without.index)
        assert build(engine, without.index)


def test_who_fills_an_index_is_gone_once_the_fill_returns(engine: Engine, without: SimpleNamespace) -> None:
    for _ in range(20):
        with engine.connect(), engine.connect(), engine.connect():
            pass
        backfill(engine, without.index)
        with Session(engine) as session:
            assert lock(session, without.index, LOADS, wait=False)
            assert session.scalar(select(present_workers())) == 0
