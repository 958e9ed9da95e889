"""Snippets of hits: which words of their texts the query matched is asked of the database, whose analysis it is.

highlighted(session, index, query, hits, Highlight())       # the hits, each with its snippet

Texts are looked through some at a time, each time after a statement: there the event loop of an async session goes on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Text, cast, column, func, literal, select, true, union_all
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from hybridsearch.hits import Hit
from hybridsearch.lexical import asked, configuration, terms_of
from hybridsearch.model import SearchIndex
from hybridsearch.query import Query
from hybridsearch.snippet import Highlight, Snippet, cut, spans_of, words_of
from hybridsearch.template import as_text

MAX_TEXT = 20_000  # characters of a document that are looked through
LEAST_TEXT = 1_000  # the same of each of its fields, however long those before it are
MAX_AT_ONCE = 40_000  # characters of several documents, between two statements: about 20 ms


@dataclass(frozen=True)
class _Matches:
    """The words of some texts that the query matched, and the query's terms."""

    words: set[str]
    terms: set[str]


def highlighted(
    session: Session, index: SearchIndex, query: Query, hits: Sequence[Hit], highlight: Highlight
) -> list[Hit]:
    """Return the hits with their snippets: of the nearest chunk, or where that has no match, of a field with one."""
    passages = [_passage(index, hit) for hit in hits]
    made = _snippets(session, index, query, [[text] for text in passages], highlight)
    without = [place for place, (_, matches) in enumerate(made) if not matches]
    fields = _snippets(session, index, query, [_fields(index, hits[place]) for place in without], highlight)
    for place, (snippet, matches) in zip(without, fields, strict=True):
        if matches or not passages[place].strip():
            made[place] = snippet, matches
    return [replace(hit, snippet=snippet) for hit, (snippet, _) in zip(hits, made, strict=True)]


def _passage(index: SearchIndex, hit: Hit) -> str:
    """The text of the nearest chunk, without the title in front of it."""
    if hit.chunk is None:
        return ""
    text: str = hit.chunk.text
    title = as_text(getattr(hit.document, index.title)) if index.title else ""
    rest = text.removeprefix(title).lstrip() if title else text
    return (rest or text)[:MAX_TEXT]


def _fields(index: SearchIndex, hit: Hit) -> list[str]:
    """The texts of the fields, the title's last: it is shown anyway."""
    names = sorted(index.fields, key=lambda name: name == index.title)
    texts: list[str] = []
    for name in names:
        left = max(MAX_TEXT - sum(map(len, texts)), LEAST_TEXT)
        texts.append(as_text(getattr(hit.document, name))[:left])
    return texts


def _snippets(
    session: Session, index: SearchIndex, query: Query, texts: Sequence[Sequence[str]], highlight: Highlight
) -> list[tuple[Snippet, int]]:
    """For each choice of texts the snippet of the first that has a match, else of the first, and the matches in it."""
    return [
        made
        for some in _batches(texts)
        for made in _cut(some, _matches(session, index, query, _words(some)), highlight)
    ]


def _batches(texts: Sequence[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    batch: list[Sequence[str]] = []
    size = 0
    for choice in texts:
        length = sum(map(len, choice))
        if batch and size + length > MAX_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(choice)
        size += length
    if batch:
        yield batch


def _words(texts: Sequence[Sequence[str]]) -> set[str]:
    return set().union(*(words_of(text) for choice in texts for text in choice))


def _cut(texts: Sequence[Sequence[str]], matches: _Matches, highlight: Highlight) -> list[tuple[Snippet, int]]:
    made = []
    for choice in texts:
        spans = [spans_of(text, matches.words, matches.terms) for text in choice]
        best = next((place for place, found in enumerate(spans) if found), 0)
        made.append((cut(choice[best], spans[best], highlight), len(spans[best])))
    return made


def _matches(session: Session, index: SearchIndex, query: Query, words: set[str]) -> _Matches:
    if query.text is None:
        return _Matches(set(), set())
    wanted = asked(index, query.text, query.prefixes).cte("wanted")
    array = cast(literal(sorted(words), ARRAY(Text)), ARRAY(Text))
    given = func.unnest(array).table_valued(column("word", Text)).render_derived("given")
    own = terms_of(configuration(index), given.c.word).lateral("own")
    found = select(given.c.word, literal(True).label("in_text")).select_from(given.join(own, true()))
    found = found.where(own.c.term.in_(select(wanted.c.term))).distinct()
    rows: Sequence[Any] = session.execute(union_all(found, select(wanted.c.term, literal(False)))).all()
    return _Matches({row.word for row in rows if row.in_text}, {row.word for row in rows if not row.in_text})
