"""From table to hits and back, whatever the primary key is made of."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from hybridsearch import HybridSearch
from hybridsearch.backfill import backfill
from hybridsearch.display import hits_as_json
from hybridsearch.page import Page
from hybridsearch.status import status
from tests.support.keyed import SHAPES, TEXTS, Declared, Shape, declare

RED_CHAIR, GARDEN_CHAIR, SHELF, NOTHING = 0, 2, 3, 4


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.name)
def shop(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Declared]:
    shape: Shape = request.param
    declared = declare(shape)
    with Session(engine) as session:
        if shape.schema:
            session.execute(CreateSchema(shape.schema))
        declared.Base.metadata.create_all(session.connection())
        session.add_all(declared.rows())
        session.commit()
    backfill(engine, declared.index, page_size=2)
    return declared


def found(shop: Declared, session: Session, text: str, **options: Any) -> set[tuple[Any, ...]]:
    return {shop.key(hit.document) for hit in HybridSearch(shop.index).search(session, text, **options)}


def key(shop: Declared, n: int) -> tuple[Any, ...]:
    return shop.shape.key(n)


def test_a_search_finds_the_row_itself(shop: Declared, session: Session) -> None:
    hits = HybridSearch(shop.index).search(session, "red chair")
    assert shop.key(hits[0].document) == key(shop, RED_CHAIR)
    assert hits[0].ranks == {"dense": 1, "lexical": 1}
    assert hits[0].chunk.document is hits[0].document


def test_where_and_limit_hold(shop: Declared, session: Session) -> None:
    titled = shop.Item.title.is_not(None)
    assert key(shop, SHELF) in found(shop, session, "red", legs=["lexical"])
    assert found(shop, session, "red", legs=["lexical"], where=titled) == {key(shop, RED_CHAIR)}
    assert len(found(shop, session, "chair", limit=1)) == 1


def test_a_null_leaves_no_trace_and_a_row_without_text_is_not_found(shop: Declared, session: Session) -> None:
    assert found(shop, session, "none null", legs=["lexical"]) == set()
    assert key(shop, NOTHING) not in found(shop, session, "chair", limit=100)
    (chunk,) = session.scalars(select(shop.index.Chunk).where(shop.index.Chunk.text.contains("Garden")))
    assert (chunk.text, shop.key(chunk.document)) == ("Garden chair", key(shop, GARDEN_CHAIR))


def test_a_second_run_reads_every_row_and_writes_nothing(shop: Declared, engine: Engine) -> None:
    shop.index.encoder.encoded.clear()
    assert backfill(engine, shop.index, page_size=3) == Page(read=len(TEXTS), written=0, removed=0)
    assert shop.index.encoder.encoded == []


def test_a_changed_row_is_found_by_its_new_words_alone(shop: Declared, engine: Engine, session: Session) -> None:
    row = session.get(shop.Item, dict(zip(shop.shape.columns, key(shop, RED_CHAIR), strict=True)))
    row.title, row.body = "Purple sofa", None
    session.commit()
    assert backfill(engine, shop.index).written == 1
    assert found(shop, session, "purple", legs=["lexical"]) == {key(shop, RED_CHAIR)}
    assert found(shop, session, "comfortable oak", legs=["lexical"]) == set()
    assert found(shop, session, "purple sofa", legs=["dense"], limit=1) == {key(shop, RED_CHAIR)}


def test_a_deleted_row_is_gone_at_once_and_its_index_with_the_next_run(
    shop: Declared, engine: Engine, session: Session
) -> None:
    session.delete(session.get(shop.Item, dict(zip(shop.shape.columns, key(shop, RED_CHAIR), strict=True))))
    session.commit()
    assert key(shop, RED_CHAIR) not in found(shop, session, "red chair")
    assert backfill(engine, shop.index).removed == 1
    documents = session.scalar(select(func.count()).select_from(shop.index.documents))
    assert documents == len(TEXTS) - 1
    assert found(shop, session, "comfortable oak", legs=["lexical"]) == set()


def test_a_rebuilt_index_answers_as_before(shop: Declared, engine: Engine, session: Session) -> None:
    search = HybridSearch(shop.index)
    before = [(shop.key(hit.document), hit.score) for hit in search.search(session, "red oak chair")]
    session.commit()
    assert backfill(engine, shop.index, rebuild=True, page_size=1).written == len(TEXTS)
    assert [(shop.key(hit.document), hit.score) for hit in search.search(session, "red oak chair")] == before


def test_its_status_and_its_hits_can_be_printed(shop: Declared, session: Session) -> None:
    figures = status(session, shop.index)
    assert (figures.rows, figures.documents) == (len(TEXTS), len(TEXTS))
    assert figures.bytes > 0
    (hit,) = hits_as_json(HybridSearch(shop.index).search(session, "red chair", limit=1), shop.index)
    assert tuple(hit["key"].values()) == key(shop, RED_CHAIR)
