"""The HNSW graph over a large first load is built after it; small ones, and what comes later, let it grow."""

from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, func, insert, select, text
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch
from hybridsearch.backfill import backfill
from hybridsearch.graph import WORTH, Estimate
from tests.support.models import articles, fill

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

    with pytest.raises(Killed):
        backfill(engine, shop.index, on_graph=die)
    assert not is_there(engine)
    with Session(engine) as session:
        assert HybridSearch(shop.index).search(session, "chair 77", legs=["dense"])[0].document.id == 77
    graphs: list[Estimate] = []
    assert backfill(engine, shop.index, on_graph=graphs.append).written == 0
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
