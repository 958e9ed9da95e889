"""A search tells what it took, in a record and in spans; the text is in neither."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, Rerank, SearchRecord, Settings
from hybridsearch.backfill import backfill
from tests.support.encoders import BrokenEncoder
from tests.support.models import articles, fill

SECRET = "chairing"  # what is searched for; its stem is that of a word of the texts


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.told = []
    shop.search = HybridSearch(shop.index, on_search=shop.told.append)
    return shop


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # once a process
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter
    assert not any(SECRET in span.to_json() for span in exporter.get_finished_spans())


def named(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name.removeprefix("hybridsearch."): span for span in exporter.get_finished_spans()}


def reverse(query: str, texts: Any) -> list[float]:
    return [float(n) for n in range(len(texts))]


def test_a_record_has_the_stages_and_no_text(shop: SimpleNamespace, session: Session) -> None:
    shop.search.search(session, f"red {SECRET}", limit=3, snippet=True, rerank=Rerank(reverse))
    (record,) = shop.told
    assert isinstance(record, SearchRecord)
    assert (record.index, record.hits, record.lost, record.error) == ("article", 3, (), None)
    assert set(record.stages) == {"encode", "query", "suggest", "snippet", "rerank"}
    assert 0 < sum(record.stages.values()) <= record.seconds
    assert record.ranked == {"dense": 4, "lexical": 3}
    assert record.deepest == {"dense": 4, "lexical": 3}
    assert SECRET not in repr(record)


def test_a_record_says_what_was_lost(shop: SimpleNamespace, session: Session) -> None:
    shop.index.encoder.broken = "raises"
    shop.search.search(session, SECRET)
    assert shop.told[0].lost == ("encode",)
    with pytest.raises(Exception, match="fell over"):
        shop.search.search(session, SECRET, legs=["dense"])
    assert (shop.told[1].error, shop.told[1].hits) == ("EncoderError", 0)


def test_a_listener_that_fails_is_no_failure(
    shop: SimpleNamespace, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(record: SearchRecord) -> None:
        raise ZeroDivisionError("of the listener")

    assert HybridSearch(shop.index, on_search=listener).search(session, "chair")
    assert "the listener of searches failed" in caplog.text


def test_a_span_for_each_stage_below_that_of_the_search(
    shop: SimpleNamespace, session: Session, spans: InMemorySpanExporter
) -> None:
    shop.search.search(session, SECRET, snippet=True, rerank=Rerank(reverse))
    found = named(spans)
    assert set(found) == {"search", "encode", "query", "suggest", "snippet", "rerank"}
    root = found.pop("search")
    assert root.parent is None
    assert root.attributes == {
        "hybridsearch.index": "article",
        "hybridsearch.limit": 10,
        "hybridsearch.candidates": 100,
        "hybridsearch.fusion": "rrf",
        "hybridsearch.hits": 4,
        "hybridsearch.ranked.dense": 4,
        "hybridsearch.ranked.lexical": 2,
        "hybridsearch.deepest.dense": 4,
        "hybridsearch.deepest.lexical": 2,
    }
    assert {span.parent.span_id for span in found.values()} == {root.context.span_id}


def test_a_leg_without_a_hit_has_no_deepest_rank(shop: SimpleNamespace, session: Session) -> None:
    shop.search.search(session, SECRET, limit=1, legs=["dense", "lexical"], weights={"lexical": 0.0})
    assert set(shop.told[0].ranked) == {"dense", "lexical"}
    assert all(1 <= deepest <= 100 for deepest in shop.told[0].deepest.values())
    shop.search.search(session, "unheardof", legs=["lexical"], suggest=False)
    assert (shop.told[1].ranked, shop.told[1].deepest) == ({"lexical": 0}, {})


def test_legs_apart_have_a_span_each(shop: SimpleNamespace, session: Session, spans: InMemorySpanExporter) -> None:
    HybridSearch(shop.index, settings=Settings(apart=True)).search(session, SECRET, suggest=False)
    assert set(named(spans)) == {"search", "encode", "leg dense", "leg lexical", "query"}


def test_a_broken_stage_is_marked_by_the_class_of_its_error(
    shop: SimpleNamespace, session: Session, spans: InMemorySpanExporter
) -> None:
    shop.index.encoder.broken = "raises"
    shop.search.search(session, SECRET)
    found = named(spans)
    assert found["encode"].status.status_code is trace.StatusCode.ERROR
    assert found["encode"].status.description == "EncoderError"
    assert found["encode"].events == ()
    assert found["search"].attributes["hybridsearch.lost"] == ("encode",)
    assert found["search"].status.is_ok
