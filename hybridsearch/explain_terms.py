"""What a lexical score is made of: the terms' figures, beside the hits of an explanation, in its one statement.

    statement = with_terms(statement, index, query)
    lexical_part(index, query, score, key, row._mapping).terms[0].idf

Of the engine sql they are those of the leg's own snapshot, to the last bit; of pg_textsearch they are worked out again
by its rules (docs/engines.md); the engine memory has them in this process. How many documents there are, and how many
have a term, is said only where row-level security hides none; the engine memory has read the role's own alone.
"""

from functools import reduce
from operator import add
from typing import Any

from sqlalchemy import (
    CTE,
    REAL,
    ColumnElement,
    Integer,
    Select,
    Text,
    any_,
    case,
    cast,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from hybridsearch.conditions import restricted
from hybridsearch.constant import DOUBLE
from hybridsearch.engines.memory import Scores
from hybridsearch.explanation import Asked, LexicalPart, Statistics, bm25
from hybridsearch.lexical import asked, changes, routine, row_configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.query import Query

MOST_TIMES = 255  # places of a word in a tsvector, of which pg_textsearch reads how often it occurs


def with_terms(statement: Select[Any], index: SearchIndex, query: Query) -> Select[Any]:
    """Add to a statement of hits what `lexical_part` needs of each."""
    if index.engine == "memory":
        return statement
    stored = index.documents.alias("stored")
    statement = statement.outerjoin(stored, index.same_row(stored))
    length: ColumnElement[Any] = stored.c.length
    if index.engine == "sql":
        changed = select(*changes(index).c).cte("changes").prefix_with("materialized")
        statement = statement.outerjoin(changed, index.same_row(changed))
        found, statistics = _asked(index, query, changed), _statistics(index, changed)
        length = func.coalesce(changed.c.length, stored.c.length)
    else:
        found, statistics = _asked_in_words(index, query), _statistics_of_words(index)
        length = _length_in_words(index, stored)
    own = _frequencies(index, found).lateral("own")
    arrays = select(
        func.array_agg(found.c.term).label("asked_terms"),
        func.array_agg(found.c.times).label("asked_times"),
        func.array_agg(found.c.documents).label("asked_documents"),
    ).cte("asked_arrays")
    return (
        statement.join(arrays, true())
        .outerjoin(statistics, true())
        .outerjoin(own, true())
        .add_columns(
            *arrays.c,
            statistics.c.documents.label("all_documents"),
            statistics.c.average.label("average_length"),
            _average_idf(index, found, statistics).label("average_idf"),
            length.label("length"),
            restricted(index).label("restricted"),
            own.c.own_terms,
            own.c.own_frequencies,
        )
    )


def lexical_part(index: SearchIndex, query: Query, score: float, key: tuple[Any, ...], values: Any) -> LexicalPart:
    """Return what the lexical score of a hit, given by its key and its row, is made of."""
    if index.engine == "memory":
        return _in_memory(index, query.read, score, key)
    asked = zip(values["asked_terms"] or (), values["asked_times"] or (), values["asked_documents"] or (), strict=True)
    frequencies = dict(zip(values["own_terms"] or (), values["own_frequencies"] or (), strict=True))
    length, tolerance = float(values["length"]), 1e-9
    if index.engine == "pg_textsearch":
        tolerance = 1e-5  # it adds up in float4
        frequencies = {term: min(times, MOST_TIMES) for term, times in frequencies.items()}
        length = in_a_byte(length)
    statistics = Statistics(
        values["all_documents"], values["average_length"], index.bm25, float(values["average_idf"] or 0.0)
    )
    part = bm25(score, length, frequencies, tuple(Asked(*entry) for entry in asked), statistics, tolerance)
    return part.without_counts() if values["restricted"] else part


def _in_memory(index: SearchIndex, scores: Scores, score: float, key: tuple[Any, ...]) -> LexicalPart:
    """The same, of what the engine memory has read."""
    ranker = scores.ranker
    asked = tuple(
        Asked(term, round(times), ranker.having[term]) for term, times in scores.asked.items() if term in ranker.having
    )
    place = scores.places[scores.keys.index(key)]
    statistics = Statistics(ranker.corpus_size, ranker.avgdl, index.bm25, ranker.average_idf)
    return bm25(score, ranker.doc_len[place], ranker.doc_freqs[place], asked, statistics)


def in_a_byte(length: float) -> float:
    """Return a length as pg_textsearch keeps it: whole up to 40, above that with four binary digits."""
    above = int(length) - 24
    if above < 16:
        return int(length)
    shift = above.bit_length() - 4
    return 24 + ((above >> shift) << shift)


def _average_idf(index: SearchIndex, found: CTE, statistics: CTE) -> ColumnElement[Any]:
    """The average of Okapi's idf, where a term is in so many documents that it counts."""
    if index.bm25.idf != "okapi":
        return cast(null(), DOUBLE)
    total = statistics.c.documents
    common = select(literal(1)).select_from(found).where(found.c.documents * 2 > total).exists()
    return case((common, routine(index, "average_idf", cast(total, DOUBLE))))


def _asked_in_words(index: SearchIndex, query: Query) -> CTE:
    """(term, times, documents) of the query's terms, of the engine pg_textsearch: a read of all its texts."""
    wanted = asked(index, query.text or "").subquery("wanted_terms")
    places = func.string_to_array(index.words.c.content, " ", type_=ARRAY(Text))
    documents = (
        select(cast(func.count(), Integer)).where(func.hybridsearch.spelled(wanted.c.term, type_=Text) == any_(places))
    ).scalar_subquery()
    counted: list[ColumnElement[Any]] = [
        wanted.c.term,
        cast(wanted.c.times, Integer).label("times"),
        documents.label("documents"),
    ]
    every = select(*counted)
    return every.cte("asked").prefix_with("materialized")


def _statistics_of_words(index: SearchIndex) -> CTE:
    """(documents, average) of the same."""
    documents, words = index.documents.alias("counted"), index.words
    length = cast(_length_in_words(index, documents), DOUBLE)
    figures: list[ColumnElement[Any]] = [
        cast(func.count(), Integer).label("documents"),
        func.avg(length).label("average"),
    ]
    counted = select(*figures).select_from(words).join(documents, documents.c.id == words.c.document)
    return counted.cte("collection")


def _length_in_words(index: SearchIndex, documents: Any) -> ColumnElement[Any]:
    """The length of a document as pg_textsearch counts it: a word counts so many times at most."""
    word = func.unnest(func.string_to_array(func.rtrim(index.words.c.content), " ")).column_valued("word")
    counts = select(func.count().label("times"), word).group_by(word).subquery("counts")
    capped = select(cast(func.sum(func.least(counts.c.times, MOST_TIMES)), REAL)).scalar_subquery()
    own = select(capped).where(index.words.c.document == documents.c.id).correlate(documents).scalar_subquery()
    return case((documents.c.length > MOST_TIMES, own), else_=documents.c.length)


def _asked(index: SearchIndex, query: Query, changed: CTE) -> CTE:
    """(term, times, documents) of the query's terms that a document has."""
    wanted = asked(index, query.text or "", query.prefixes).subquery("wanted_terms")
    terms, postings, pending = index.terms, index.postings, index.pending
    counts: list[Select[Any]] = [
        select(func.coalesce(func.sum(postings.c.documents), 0)).where(postings.c.term_id == terms.c.id),
        select(func.coalesce(func.sum(pending.c.sign), 0)).where(terms.c.id == func.any(pending.c.terms)),
        select(func.count()).select_from(changed).where(wanted.c.term == func.any(changed.c.words)),
        select(-func.count()).select_from(changed).where(terms.c.id == func.any(changed.c.old_terms)),
    ]
    documents: ColumnElement[Any] = reduce(add, (count.scalar_subquery() for count in counts))
    counted: list[ColumnElement[Any]] = [
        wanted.c.term,
        cast(wanted.c.times, Integer).label("times"),
        cast(documents, Integer).label("documents"),
    ]
    every = (
        select(*counted).join_from(wanted, terms, terms.c.term == wanted.c.term, isouter=True).subquery("every_term")
    )
    return select(*every.c).where(every.c.documents > 0).cte("asked").prefix_with("materialized")


def _statistics(index: SearchIndex, changed: CTE) -> CTE:
    """(documents, average): the merged ones, the pending ones and the changed ones, as the lexical leg counts them."""
    pending = index.pending
    merged = select(
        func.coalesce(func.sum(index.statistics.c.documents), 0).label("documents"),
        func.coalesce(func.sum(index.statistics.c.length), 0.0).label("length"),
    ).subquery("merged")
    waiting = select(
        func.coalesce(func.sum(pending.c.sign), 0).label("documents"),
        func.coalesce(func.sum(pending.c.sign * cast(pending.c.length, DOUBLE)), 0.0).label("length"),
    ).subquery("waiting")
    lengths = [func.coalesce(func.sum(cast(changed.c[name], DOUBLE)), 0.0) for name in ("length", "old_length")]
    live = select(
        (func.count(changed.c.length) - func.count(changed.c.old_length)).label("documents"),
        (lengths[0] - lengths[1]).label("length"),
    ).subquery("live")
    parts = (merged, waiting, live)
    total = cast(reduce(add, (part.c.documents for part in parts)), DOUBLE)
    length = reduce(add, (part.c.length for part in parts))
    average = case((total > 0, func.greatest(length / func.nullif(total, 0), 1e-30)), else_=1.0)
    figures: list[ColumnElement[Any]] = [
        cast(total, Integer).label("documents"),
        cast(average, DOUBLE).label("average"),
    ]
    return select(*figures).select_from(merged.join(waiting, true()).join(live, true())).cte("collection")


def _frequencies(index: SearchIndex, wanted: CTE) -> Select[Any]:
    """The asked terms that the row's text has, and their weighted frequencies, as two arrays."""
    fields = []
    for name, weight in index.fields.items():
        word = terms_of(row_configuration(index), cast(index.mapper.column_attrs[name].columns[0], Text)).alias("word")
        fields.append(
            select(word.c.term, (literal(weight, REAL) * word.c.frequency).label("frequency")).correlate(index.table)
        )
    every = union_all(*fields).subquery("every")
    counted = (
        select(every.c.term, cast(cast(func.sum(every.c.frequency), REAL), DOUBLE).label("frequency"))
        .where(every.c.term.in_(select(wanted.c.term)))
        .group_by(every.c.term)
        .subquery("counted")
    )
    arrays: list[ColumnElement[Any]] = [
        func.array_agg(counted.c.term, type_=ARRAY(Text)).label("own_terms"),
        func.array_agg(counted.c.frequency, type_=ARRAY(DOUBLE)).label("own_frequencies"),
    ]
    return select(*arrays)
