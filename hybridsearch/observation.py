"""Watch a search: how long it and its stages took, what was lost, as a record for a log and as OpenTelemetry spans.

    search = HybridSearch(articles, on_search=lambda record: logger.info("%s", record))

Neither holds the query's text, nor a document's. Spans are made where `opentelemetry-api` is installed (the extra
`otel`) and the application has set up a tracer: hybridsearch.search, and below it one for each stage. Legs that are
one statement have no times of their own, and so no spans: what they found is in the attributes of the search.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SearchRecord:
    """One search. `seconds` in all, `stages` each in seconds: encode, query, leg dense, suggest, snippet, rerank.

    `ranked` counts the documents of each leg among those that were read: the hits, or for a reranker more; `deepest` is
    the last rank in the leg that any of them has, no more than `candidates`. `lost` names the stages that were left
    undone, `error` is the class of the exception that the search ended in. `method` is what was called: search, page,
    facets, recommend (similar_to as well), explain or why_not.
    """

    index: str
    seconds: float
    stages: Mapping[str, float]
    hits: int
    ranked: Mapping[str, int]
    lost: tuple[str, ...]
    error: str | None
    deepest: Mapping[str, int] = field(default_factory=dict)
    method: str = "search"


@dataclass
class Watch:
    """Watches one search from its beginning on."""

    index: str
    deadline: float | None = None
    method: str = "search"
    stages: dict[str, float] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    """The stages that were left undone, and why."""

    hits: int = 0
    ranked: Mapping[str, int] = field(default_factory=dict)
    deepest: Mapping[str, int] = field(default_factory=dict)
    _begun: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return time.perf_counter() - self._begun

    @property
    def left(self) -> float | None:
        """The seconds until the deadline, at least a thousandth; None without one."""
        return None if self.deadline is None else max(self.deadline - self.seconds, 0.001)

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.seconds >= self.deadline

    @property
    def degraded(self) -> str | None:
        """What was left undone, as one text."""
        return "; ".join(self.lost.values()) or None

    def lose(self, stage: str, reason: str) -> None:
        """Note that a stage was left undone."""
        self.lost[stage] = reason

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Take the time of a stage, in a span of its own."""
        begun = time.perf_counter()
        try:
            with span(name):
                yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - begun


@contextmanager
def watching(
    index: str,
    deadline: float | None,
    told: Callable[[SearchRecord], object] | None,
    method: str = "search",
    **attributes: Any,
) -> Iterator[Watch]:
    """Watch a search in a span, and tell of it at the end; what the listener raises is logged."""
    watch = Watch(index, deadline, method)
    error: str | None = None
    try:
        with span(method, index=index, **attributes) as current:
            yield watch
            if current is not None:
                _describe(current, watch)
    except BaseException as failure:
        error = type(failure).__name__
        raise
    finally:
        if told is not None:
            _tell(told, watch, error)


def _tell(told: Callable[[SearchRecord], object], watch: Watch, error: str | None) -> None:
    record = SearchRecord(
        index=watch.index,
        seconds=watch.seconds,
        stages=dict(watch.stages),
        hits=watch.hits,
        ranked=dict(watch.ranked),
        lost=tuple(watch.lost),
        error=error,
        deepest=dict(watch.deepest),
        method=watch.method,
    )
    try:
        told(record)
    except Exception:
        logger.exception("the listener of searches failed")


def _describe(current: Any, watch: Watch) -> None:
    current.set_attribute("hybridsearch.hits", watch.hits)
    for name, figures in (("ranked", watch.ranked), ("deepest", watch.deepest)):
        for leg, figure in figures.items():
            current.set_attribute(f"hybridsearch.{name}.{leg}", figure)
    if watch.lost:
        current.set_attribute("hybridsearch.lost", list(watch.lost))


def span(name: str, **attributes: Any) -> AbstractContextManager[Any]:
    """Open a span below the current one; None where nobody has set up a tracer. An error marks it, by its class."""
    trace = _trace()
    # What stands in until then makes spans of nothing, with all the work that spans are.
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return nullcontext()
    return _span(trace, name, attributes)


@contextmanager
def _span(trace: Any, name: str, attributes: Mapping[str, Any]) -> Iterator[Any]:
    given = {f"hybridsearch.{key}": value for key, value in attributes.items()}
    with trace.get_tracer("hybridsearch").start_as_current_span(
        f"hybridsearch.{name}", attributes=given, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except BaseException as error:
            # The message may hold what was searched for.
            current.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


@cache
def _trace() -> Any:
    try:
        return import_module("opentelemetry.trace")
    except ImportError:
        return None
