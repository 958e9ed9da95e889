"""The engine `memory`: rank-bm25 in this process, for small tables and notebooks.

Nothing is stored but the vectors. Before a search the rows are looked over, in the caller's transaction, and those that
are new or changed are analysed, by the same SQL function as everywhere: an answer is of the rows as the transaction
sees them at that moment. Scores go into the search's one statement as arrays, so the fusion, `where=` and the order of
ties are those of every other engine. N, n and the average length are those of all rows.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    DOUBLE_PRECISION,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    cast,
    column,
    func,
    literal,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.bm25 import BM25, lucene_idf
from hybridsearch.encoders.optional import require
from hybridsearch.engines.analysis import Content, Counts, analysed
from hybridsearch.engines.base import Statistics
from hybridsearch.errors import QueryError
from hybridsearch.lexical import row_configuration
from hybridsearch.model import SearchIndex

MAX_DOCUMENTS = 10_000
PAGE = 500  # rows that are read and analysed at once

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Scores:
    """The score of every document that has a word of the query; keys, scores and places in the same order.

    `asked` says how often each term counts; `ranker` knows how many documents have it, and holds them at those places:
    `having`, `keys`, and what is rank-bm25's own. It is None where there is no word at all.
    """

    keys: Sequence[Key] = ()
    scores: Sequence[float] = ()
    places: Sequence[int] = ()
    asked: Counts = field(default_factory=dict)
    ranker: Any = None


@dataclass
class Rows:
    """What this process knows of an index's rows in one database, as of `fingerprint`."""

    fingerprint: Any = None
    versions: dict[Key, str] = field(default_factory=dict)
    counts: dict[Key, Counts] = field(default_factory=dict)
    ranker: Any = None


class MemoryEngine:
    """rank-bm25's BM25Okapi, or the same with Lucene's idf, over weighted frequencies; O(documents) a query."""

    name = "memory"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: WeakKeyDictionary[Table, dict[tuple[Any, ...], Rows]] = WeakKeyDictionary()

    def prepare(self, session: Session, index: SearchIndex) -> None:
        """Nothing to make ready."""

    def fill(self, session: Session, index: SearchIndex, recipe: str) -> int:
        """Leave them to be added one by one."""
        return 0

    def compact(self, session: Session, index: SearchIndex) -> int:
        """Nothing to merge."""
        return 0

    def clean(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Nothing to drop."""
        yield from ()

    def rebuild(self, session: Session, index: SearchIndex) -> Iterator[int]:
        """Nothing is stored."""
        yield from ()

    def worn(self, session: Session, index: SearchIndex) -> Sequence[Callable[[Session], int]]:
        """Nothing: Nothing is stored."""
        return ()

    def waiting(self, session: Session, index: SearchIndex) -> int:
        """Nothing waits."""
        return 0

    def statistics(self, session: Session, index: SearchIndex) -> Statistics:
        """Nothing is stored."""
        return Statistics()

    def read(self, session: Session, index: SearchIndex, text: str, prefixes: Sequence[str] = ()) -> Scores:
        """Look over the rows, then score them all. Raises QueryError above MAX_DOCUMENTS rows."""
        query = analysed(session, index, [Content(0, 1.0, text)]).get(0, {})
        with self._lock:
            rows = self._current(session, index)
            return _scores(rows, query, prefixes)

    def leg(
        self,
        index: SearchIndex,
        text: str,
        *,
        candidates: int,
        where: ColumnElement[bool] | None = None,
        prefixes: Sequence[str] = (),
        read: Any = None,
    ) -> Select[Any]:
        """Return the leg made of the scores in `read`; of those, the rows that are still there."""
        if not isinstance(read, Scores):
            raise QueryError(
                f'index "{index.name}" is ranked in this process, which has to read its rows first: '
                f"use search(session, ...), or choose the engine sql"
            )
        found = _as_rows(index, read)
        distance = (-found.c.score).label("distance")
        keys = [found.c[name] for name in index.key_names]
        leg = select(*keys, distance).join_from(found, index.table, index.same_row(found))
        if where is not None:
            leg = leg.where(where)
        return leg.order_by(distance, *keys).limit(candidates)

    def _current(self, session: Session, index: SearchIndex) -> Rows:
        """The rows as this transaction sees them."""
        place, fingerprint = _fingerprint(session, index)
        rows = self._rows.setdefault(index.documents, {}).setdefault(place, Rows())
        if rows.fingerprint != fingerprint:
            _refresh(session, index, rows)
            rows.fingerprint = fingerprint
        return rows


def _fingerprint(session: Session, index: SearchIndex) -> tuple[tuple[Any, ...], Any]:
    """Which database this is, and two numbers that change with every insert, update and delete."""
    source = _source(index)
    started, database, count, versions = session.execute(
        select(
            func.pg_postmaster_start_time(),
            func.current_database(),
            func.count(),
            func.bit_xor(func.hashtextextended(_version(source), 0)),
        ).select_from(source)
    ).one()
    if count > MAX_DOCUMENTS:
        raise QueryError(
            f'index "{index.name}" has {count:,} documents, engine "memory" takes {MAX_DOCUMENTS:,}: '
            f'declare it with engine="sql"'
        )
    return (started, database), (count, versions)


def _source(index: SearchIndex) -> Any:
    """The model's table with the system columns that say which version of a row one sees."""
    columns = [column(known.name, known.type) for known in index.table.columns]
    system: list[Any] = [column(name) for name in ("tableoid", "ctid", "xmin")]
    return table(index.table.name, *columns, *system, schema=index.table.schema)


def _version(source: Any) -> ColumnElement[str]:
    return func.concat_ws(" ", *(cast(source.c[name], Text) for name in ("tableoid", "ctid", "xmin")))


def _refresh(session: Session, index: SearchIndex, rows: Rows) -> None:
    """Analyse the rows that are new or changed, forget those that are gone."""
    source = _source(index)
    keys = [source.c[key.name] for key in index.keys]
    width = len(keys)
    versions = {tuple(row[:width]): row[width] for row in session.execute(select(*keys, _version(source)))}
    changed = [key for key, version in versions.items() if rows.versions.get(key) != version]
    counts = {key: known for key, known in rows.counts.items() if key in versions}
    config = cast(row_configuration(index), Text)
    texts = [func.hybridsearch.as_text(index.mapper.column_attrs[name].columns[0]) for name in index.fields]
    for start in range(0, len(changed), PAGE):
        page: Select[Any] = select(*index.keys, config, *texts).where(
            tuple_(*index.keys).in_(changed[start : start + PAGE])
        )
        counts |= _counted(session, index, session.execute(page).all())
    rows.versions, rows.counts = versions, {key: counts[key] for key in versions if key in counts}
    rows.ranker = _ranker(rows.counts, index.bm25)


def _counted(session: Session, index: SearchIndex, page: Sequence[Row[Any]]) -> dict[Key, Counts]:
    """The weighted term counts of rows: key columns, the configuration, fields."""
    width = len(index.keys)
    weights = list(index.fields.values())
    contents = [
        Content(number, weight, text, row[width])
        for number, row in enumerate(page)
        for weight, text in zip(weights, row[width + 1 :], strict=True)
        if text is not None
    ]
    found = analysed(session, index, contents)
    return {tuple(row[:width]): found.get(number, {}) for number, row in enumerate(page)}


def _ranker(counts: Mapping[Key, Counts], bm25: BM25) -> Any:
    """rank-bm25's BM25Okapi over weighted counts instead of lists of words; None where there is no word at all."""
    if not any(counts.values()):
        return None
    okapi: Any = require("rank_bm25", extra="memory").BM25Okapi

    class Weighted(okapi):  # type: ignore[misc]
        def _initialize(self, corpus: Sequence[Counts]) -> dict[str, int]:
            having: dict[str, int] = {}
            for document in corpus:
                self.doc_freqs.append(document)
                self.doc_len.append(sum(document.values()))
                for term in document:
                    having[term] = having.get(term, 0) + 1
            self.keys = list(counts)
            self.having = having
            self.corpus_size = len(corpus)
            self.avgdl = sum(self.doc_len) / self.corpus_size
            return having

        def _calc_idf(self, nd: Mapping[str, int]) -> None:
            if bm25.idf == "okapi":
                super()._calc_idf(nd)
            else:
                self.average_idf = 0.0
                self.idf = {term: lucene_idf(self.corpus_size, count) for term, count in nd.items()}

    return Weighted(list(counts.values()), k1=bm25.k1, b=bm25.b, epsilon=bm25.epsilon)


def _scores(rows: Rows, query: Counts, prefixes: Sequence[str]) -> Scores:
    if rows.ranker is None:
        return Scores()
    beginnings = tuple(prefix.lower() for prefix in prefixes)
    begun = {term: 1 for term in rows.ranker.having if beginnings and term.startswith(beginnings)}
    return scores_of(rows.ranker, begun | dict(query))


def scores_of(ranker: Any, query: Counts) -> Scores:
    """Return the scores for some terms, each with how often it counts."""
    words = [term for term, times in query.items() for _ in range(round(times))]
    scores = ranker.get_scores(words)
    having = [place for place, counts in enumerate(ranker.doc_freqs) if not query.keys().isdisjoint(counts)]
    found, scored = [ranker.keys[place] for place in having], [float(scores[place]) for place in having]
    return Scores(found, scored, having, query, ranker)


def _as_rows(index: SearchIndex, scores: Scores) -> Any:
    """The scores as a FROM element: the key columns as in the companions, and `score`."""
    parts = list(zip(*scores.keys, strict=True)) if scores.keys else [()] * len(index.keys)
    arrays = [
        cast(literal(list(values), ARRAY(key.type)), ARRAY(key.type))
        for key, values in zip(index.keys, parts, strict=True)
    ]
    numbers = cast(literal(list(scores.scores), ARRAY(DOUBLE_PRECISION)), ARRAY(DOUBLE_PRECISION))
    columns = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    return (
        func.unnest(*arrays, numbers)
        .table_valued(*columns, column("score", DOUBLE_PRECISION))
        .render_derived(name="found")
    )
