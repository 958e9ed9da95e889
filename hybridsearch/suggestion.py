"""Did you mean: a query whose unknown words are replaced by known ones that are spelt alike.

    suggest(session, index, query, plan)        # "red chair" for "red chiar", None where nothing is to be said

Known is what the caller would find: a word of a document that passes row-level security and `where=`. So is every word
that is suggested, as it stands in such a document. Similar terms come from the dictionary: by pg_trgm where the
extension is installed, else those with the same first letter and nearly the same others. The engine memory compares all
terms that it has in this process; pg_textsearch does not tell its terms, so there is no suggestion.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    cast,
    column,
    func,
    literal,
    or_,
    quoted_name,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import Function

from hybridsearch.engines import engine_of
from hybridsearch.engines.memory import scores_of
from hybridsearch.hits import Hit
from hybridsearch.keys import identity, is_key
from hybridsearch.lexical import configuration, ranked, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import within
from hybridsearch.syntax import is_plain_word
from hybridsearch.template import as_text

MAX_WORDS = 8  # of a query that are looked at
MAX_SIMILAR = 40  # terms of the dictionary that are compared with a word, by trigrams
MAX_COMPARED = 500  # the same, by their letters
MAX_TRIED = 5  # of those that are looked for in the rows
MAX_TEXT = 50_000  # characters of such a row that are looked through
MAX_APART = 4  # edits between a word and what it is replaced by that are told from more
LEAST_SIMILARITY = 0.15
_WORD = re.compile(r"[^\W\d_]{4,}")

_catalog = MetaData(schema="pg_catalog")
_extension = Table("pg_extension", _catalog, Column("extname", Text), Column("extnamespace", Integer))
_namespace = Table("pg_namespace", _catalog, Column("oid", Integer), Column("nspname", Text))


def suggest(
    session: Session,
    index: SearchIndex,
    query: Query,
    plan: Plan,
    hits: Sequence[Hit] = (),
    is_late: Callable[[], bool] = lambda: False,
) -> str | None:
    """Return the query with its unknown words put right, or None.

    The words of `hits`, what the query has found, are known, and need not be looked for. Once `is_late`, the words that
    are left stay as they are.
    """
    if query.text is None or index.engine == "pg_textsearch" or _has_no_word(index, query):
        return None
    plan = within(index, query, plan)
    words = _words(query.text)
    seen = _seen(session, index, words, hits)
    unseen = [word for word in words if word not in seen]
    unknown = [word for word in unseen if not is_late() and not _is_known(session, index, plan, word)]
    if not unknown:
        return None
    trigrams = _trigram_schema(session)
    ranker = query.read.ranker if index.engine == "memory" else None
    right = {word: _instead(session, index, plan, word, trigrams, ranker, is_late) for word in unknown}
    text = query.text if query.parsed is None else query.parsed.source or query.text
    said = _WORD.sub(lambda match: right.get(match[0].lower()) or match[0], text)
    return said if said != text else None


def _words(text: str) -> list[str]:
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text) if is_plain_word(word))
    return list(words)[:MAX_WORDS]


def _seen(session: Session, index: SearchIndex, words: Sequence[str], hits: Sequence[Hit]) -> set[str]:
    """Those of the words that a hit has."""
    keys = [identity(index, hit.document) for hit in hits if "lexical" in hit.ranks]
    if not keys or not words or index.engine != "sql":
        return set()
    given = _given(words)
    own = terms_of(configuration(index), given.c.word).lateral("own")
    documents = index.documents
    having = select(literal(1)).where(
        tuple_(*index.key_columns(documents)).in_(keys), index.terms.c.id == func.any(documents.c.terms)
    )
    found = select(given.c.word).select_from(
        given.join(own, true()).join(index.terms, index.terms.c.term == own.c.term)
    )
    return set(session.scalars(found.where(having.exists())))


def _is_known(session: Session, index: SearchIndex, plan: Plan, word: str) -> bool:
    """Whether the word finds anything; so does one without a term, such as "with"."""
    engine = engine_of(index)
    found = engine.leg(index, word, candidates=1, where=plan.where, read=engine.read(session, index, word)).exists()
    terms = select(literal(1)).select_from(terms_of(configuration(index), literal(word, Text))).exists()
    return bool(session.scalar(select(or_(found, ~terms))))


def _given(words: Sequence[str]) -> Any:
    array = cast(literal(list(words), ARRAY(Text)), ARRAY(Text))
    return func.unnest(array).table_valued(column("word", Text)).render_derived("given")


def _instead(
    session: Session,
    index: SearchIndex,
    plan: Plan,
    word: str,
    trigrams: str | None,
    ranker: Any,
    is_late: Callable[[], bool],
) -> str | None:
    """The nearest word that finds something, as it stands in what it finds; `ranker` is that of the engine memory."""
    if is_late():
        return None
    most = 1 if len(word) < 6 else 2
    if ranker is not None:
        near = _nearest(word, _in_memory(session, index, word), most)
    else:
        near = _nearest(word, session.execute(_similar(index, word, trigrams, most)), most)
    for *_, term in near[:MAX_TRIED]:
        if is_late():
            return None
        row = session.execute(_best(index, plan, term, ranker)).first()
        found = row and _surface(session, index, tuple(row[: len(index.keys)]), term, word)
        if found:
            return found
    return None


def _nearest(word: str, similar: Iterable[Any], most: int) -> list[tuple[int, int, str]]:
    """(edits, edits of the whole word, term) of those terms that are so near to the word or to its stem, in order."""
    near = []
    for term, stem in similar:
        away = min(edits(term, word, most), edits(term, stem, most))
        if away <= most:
            near.append((away, edits(term, word), term))
    return sorted(near)


def _best(index: SearchIndex, plan: Plan, term: str, ranker: Any) -> Select[Any]:
    """The best document for one term of the dictionary."""
    if ranker is not None:
        return engine_of(index).leg(index, term, candidates=1, where=plan.where, read=scores_of(ranker, {term: 1}))
    one: list[ColumnElement[Any]] = [literal(term, Text).label("term"), literal(1).label("times")]
    return ranked(index, select(*one), candidates=1, where=plan.where)


def _has_no_word(index: SearchIndex, query: Query) -> bool:
    """Whether the engine memory has read rows that have no word at all."""
    return index.engine == "memory" and (query.read is None or query.read.ranker is None)


def _in_memory(session: Session, index: SearchIndex, word: str) -> list[tuple[str, str]]:
    """(term, stem) of about the word's length, in no order; the word's own stem."""
    read = engine_of(index).read(session, index, word)
    stem = min(read.asked, default=word)
    return [(term, stem) for term in read.ranker.having if len(stem) - 2 <= len(term) <= len(word) + 2]


def _similar(index: SearchIndex, word: str, trigrams: str | None, most: int) -> Select[Any]:
    """(term, stem): terms of the dictionary of about the word's length, the likeliest first; the word's own stem."""
    term = index.terms.c.term
    own = terms_of(configuration(index), literal(word, Text)).alias("own")
    stem = func.coalesce(select(func.min(own.c.term)).scalar_subquery(), literal(word, Text)).label("stem")
    lengths = func.length(term).between(func.length(stem) - 2, len(word) + 2)
    if trigrams is None:
        head = word[0]
        alike = select(term, stem).where(term >= head, term < chr(ord(head) + 1), lengths)
        # An edit brings or takes away one letter: of terms by the ten thousand these leave some dozens.
        foreign = _letters_beside(term, func.concat(word, stem))
        missing = func.least(_letters_beside(literal(word, Text), term), _letters_beside(stem, term))
        alike = alike.where(foreign <= most, missing <= most)
        return alike.order_by(func.abs(func.length(term) - len(word)), term).limit(MAX_COMPARED)
    similarity: ColumnElement[float] = Function(
        quoted_name("similarity", quote=True),
        term,
        literal(word, Text),
        packagenames=(quoted_name(trigrams, quote=True),),
    )
    return (
        select(term, stem)
        .where(lengths, similarity >= LEAST_SIMILARITY)
        .order_by(similarity.desc(), term)
        .limit(MAX_SIMILAR)
    )


def _letters_beside(text: ColumnElement[str], letters: ColumnElement[str]) -> ColumnElement[int]:
    """How many letters of a text are none of those."""
    return func.length(func.translate(text, letters, ""))


def _surface(session: Session, index: SearchIndex, key: tuple[Any, ...], term: str, word: str) -> str | None:
    """The word of a document that has the term and is spelt most like the word."""
    columns = [index.mapper.column_attrs[name].columns[0] for name in index.fields]
    row = session.execute(select(*columns).where(is_key(index.keys, key))).first()
    text = "\n".join(as_text(value) for value in row or () if value is not None)[:MAX_TEXT]
    words = sorted({found.lower() for found in _WORD.findall(text)}, key=lambda w: (edits(w, word, MAX_APART), w))
    given = _given(words[:50])
    own = terms_of(configuration(index), given.c.word).lateral("own")
    having = set(session.scalars(select(given.c.word).select_from(given.join(own, own.c.term == term))))
    return next((found for found in words if found in having), None)


def _trigram_schema(session: Session) -> str | None:
    """The schema that pg_trgm is installed in, None where it is not, or the role may not use it."""
    joined = _extension.join(_namespace, _namespace.c.oid == _extension.c.extnamespace)
    return session.scalar(
        select(cast(_namespace.c.nspname, String))
        .select_from(joined)
        .where(_extension.c.extname == "pg_trgm", func.has_schema_privilege(_namespace.c.oid, "usage"))
    )


def edits(one: str, other: str, most: int = sys.maxsize) -> int:
    """Return how many letters must be put in, left out, changed or swapped with the next to make one word the other.

    Where it is more than `most`, that and one: most words are told apart by their lengths and letters alone.
    """
    far, width = most + 1, len(other)
    # A change takes one letter out of the set, and brings one.
    if abs(len(one) - width) > most or len(set(one) ^ set(other)) > 2 * most:
        return far
    before: list[int] = []
    last = list(range(width + 1))
    for i, a in enumerate(one, 1):
        row = [i] + [far] * width
        for j in range(max(1, i - most), min(width, i + most) + 1):
            b = other[j - 1]
            if a == b:
                row[j] = last[j - 1]
                continue
            cost = min(last[j - 1], last[j], row[j - 1])
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2])
            row[j] = cost + 1
        if min(row) > most:
            return far
        before, last = last, row
    return min(last[-1], far)
