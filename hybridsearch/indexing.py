"""Make the index of a table follow its rows, a page at a time.

    for page in index_rows(session, articles):      # commit after each page, or at the end
        session.commit()

Rows are read by key, so memory holds one page. A row whose content hash has not changed costs one comparison. A page is
written whole or not at all: document numbers, postings, chunks and vectors in the caller's transaction. So is each step
that merges pending documents into the postings, which yields an empty page.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, Table, delete, exists, func, insert, literal, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.schema import ExecutableDDLElement
from sqlalchemy.sql.compiler import DDLCompiler

from hybridsearch.chunking import split
from hybridsearch.encoders import checked
from hybridsearch.encoders.text import clean
from hybridsearch.encoding import work_of
from hybridsearch.engines import engine_of
from hybridsearch.model import SearchIndex
from hybridsearch.postings import BATCH, FieldText
from hybridsearch.sparse import sparse_vector
from hybridsearch.state import forget_encoder, qualified_name, register_encoder
from hybridsearch.template import as_text, render


class Analyze(ExecutableDDLElement):
    """ANALYZE of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table


@compiles(Analyze)
def _compile_analyze(element: Analyze, compiler: DDLCompiler, **options: Any) -> str:
    return f"ANALYZE {compiler.preparer.format_table(element.table)}"


PAGE = 256
CHUNK_OVERLAP = 32  # tokens
MAX_PENDING = 200  # documents that may stay unmerged after a run: each costs a query about 15 microseconds


@dataclass(frozen=True)
class Page:
    """What happened to a page of rows: how many were read, written (new or changed), and removed from the index."""

    read: int = 0
    written: int = 0
    removed: int = 0

    def __add__(self, other: "Page") -> "Page":
        return Page(self.read + other.read, self.written + other.written, self.removed + other.removed)


def index_rows(session: Session, index: SearchIndex, *, page_size: int = PAGE) -> Iterator[Page]:
    """Index every row that is new or changed, then drop what has no row any more; yield after each page.

    The caller commits, after each page (then a stopped run goes on where it was) or at the end. Raises EncoderMismatch
    if the index was filled by another encoder; EncoderError from the encoder, with nothing of that page written.
    """
    engine = engine_of(index)
    engine.prepare(session, index)
    after: tuple[Any, ...] | None = None
    written = 0
    while rows := _locked_page(session, index, after, page_size):
        after = tuple(rows[-1][: len(index.keys)])
        page = _index_page(session, index, rows)
        yield page
        written += page.written
        if written >= BATCH:
            written = 0
            yield from _compacted(session, index)
    removed = _orphans(session, index)
    engine.remove(session, index, removed)
    yield Page(removed=len(removed))
    if engine.waiting(session, index) > MAX_PENDING:
        yield from _compacted(session, index)


def _compacted(session: Session, index: SearchIndex) -> Iterator[Page]:
    """Merge what is pending, a step at a time; yield after each."""
    while engine_of(index).compact(session, index):
        yield Page()


def clear(session: Session, index: SearchIndex) -> None:
    """Empty the index, so that it can be filled anew, by another encoder too (of the same dimensions)."""
    for table in reversed(index.tables):
        session.execute(delete(table))
    forget_encoder(session, index)


def analyze(session: Session, index: SearchIndex) -> None:
    """Refresh the planner's statistics of the companion tables: after a bulk load it would plan for empty ones."""
    for table in index.tables:
        session.execute(Analyze(table))


def count_rows(session: Session, index: SearchIndex) -> int:
    """Return the number of rows of the model's table: what an indexing run will read."""
    return session.scalar(select(func.count()).select_from(index.table)) or 0


def _locked_page(session: Session, index: SearchIndex, after: tuple[Any, ...] | None, size: int) -> Sequence[Row[Any]]:
    """Read the next page, under a lock that two runs of one index take in turn: the later finds nothing to write."""
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"hybridsearch:{qualified_name(index)}", 0)))
    )
    register_encoder(session, index)
    return session.execute(_page(index, after, size)).all()


def _page(index: SearchIndex, after: tuple[Any, ...] | None, size: int) -> Select[Any]:
    """Rows in key order: key columns, fields, the hash that is indexed, its number (both null for a new row)."""
    documents = index.documents
    fields = [index.mapper.column_attrs[name].columns[0].label(f"field_{name}") for name in index.fields]
    page = select(*index.keys, *fields, documents.c.hash, documents.c.id).join_from(
        index.table, documents, index.same_row(documents), isouter=True
    )
    if after is not None:
        page = page.where(
            tuple_(*index.keys)
            > tuple_(*(literal(value, key.type) for value, key in zip(after, index.keys, strict=True)))
        )
    return page.order_by(*index.keys).limit(size)


def _index_page(session: Session, index: SearchIndex, rows: Sequence[Row[Any]]) -> Page:
    width = len(index.keys)
    changed: list[tuple[tuple[Any, ...], dict[str, str], bytes]] = []
    old: list[int] = []
    for row in rows:
        # By place: a key column of the model may have any name, `hash` and `number` too.
        *values, indexed, number = row[width:]
        content = {
            name: clean(as_text(value)) for name, value in zip(index.fields, values, strict=True) if value is not None
        }
        digest = content_hash(index, content)
        if digest != indexed:
            changed.append((tuple(row[:width]), content, digest))
            if number is not None:
                old.append(number)
    if changed:
        chunks = _encoded(index, [(key, content) for key, content, _ in changed])
        engine = engine_of(index)
        engine.remove(session, index, old)
        numbers = _insert_documents(session, index, [(key, digest) for key, _, digest in changed])
        engine.add(
            session,
            index,
            numbers,
            [
                FieldText(number, index.fields[name], text)
                for number, (_, content, _) in zip(numbers, changed, strict=True)
                for name, text in content.items()
            ],
        )
        _replace_chunks(session, index, [key for key, _, _ in changed], chunks)
    return Page(read=len(rows), written=len(changed))


def content_hash(index: SearchIndex, content: Mapping[str, str]) -> bytes:
    """Return 16 bytes that change whenever the fields' text, or how it is indexed, changes."""
    recipe = [dict(index.fields), index.title, index.template, index.config, CHUNK_OVERLAP, dict(content)]
    return hashlib.blake2b(json.dumps(recipe, ensure_ascii=True).encode(), digest_size=16).digest()


def _encoded(index: SearchIndex, contents: Sequence[tuple[tuple[Any, ...], dict[str, str]]]) -> list[dict[str, Any]]:
    """Cut each document into chunks, encode them all; return the rows of the chunk table."""
    with work_of(index.encoder):
        rows = [row for key, content in contents for row in _chunks(index, key, content)]
        encoding = checked(index.encoder, index.encoder.encode_documents([row["text"] for row in rows]), len(rows))
    for row, vector in zip(rows, index.storage.fit(encoding.dense), strict=True):
        row["dense"] = vector
        if index.storage.bits is not None:
            row["bits"] = index.storage.quantise(vector)
    for row, weights in zip(rows, encoding.sparse or [], strict=False):
        row["sparse"] = sparse_vector(index, weights)
    return rows


def _chunks(index: SearchIndex, key: tuple[Any, ...], content: Mapping[str, str]) -> list[dict[str, Any]]:
    """Cut one document; return rows of the chunk table without their vectors."""
    encoder = index.encoder
    title = content.get(index.title, "") if index.title else ""
    overlap = min(CHUNK_OVERLAP, encoder.max_tokens // 4)
    passages = split(
        body_of(index, content), encoder.token_spans, max_tokens=encoder.max_tokens, overlap=overlap, prefix=title
    )
    names = dict(zip(index.key_names, key, strict=True))
    return [
        {**names, "ordinal": passage.ordinal, "start": passage.start, "stop": passage.end, "text": passage.text}
        for passage in passages
    ]


def body_of(index: SearchIndex, content: Mapping[str, str]) -> str:
    """Return the text that is cut into chunks, to which their offsets refer: by the template, or field after field."""
    if index.template is not None:
        return render(index.template, dict.fromkeys(index.fields) | dict(content))
    return "\n\n".join(text for name, text in content.items() if name != index.title)


def _insert_documents(
    session: Session, index: SearchIndex, documents: Sequence[tuple[tuple[Any, ...], bytes]]
) -> list[int]:
    """Number the documents; return the numbers in their order."""
    rows = [
        {**dict(zip(index.key_names, key, strict=True)), "hash": digest, "length": 0.0, "terms": []}
        for key, digest in documents
    ]
    statement = insert(index.documents).returning(index.documents.c.id, sort_by_parameter_order=True)
    return list(session.scalars(statement, rows))


def _replace_chunks(
    session: Session, index: SearchIndex, keys: Sequence[tuple[Any, ...]], rows: Sequence[dict[str, Any]]
) -> None:
    columns = tuple_(*index.key_columns(index.chunks))
    session.execute(delete(index.chunks).where(columns.in_(keys)))
    if rows:
        session.execute(insert(index.chunks), rows)


def _orphans(session: Session, index: SearchIndex) -> list[int]:
    """Numbers of the documents whose row is gone."""
    row = exists(select(literal(1)).select_from(index.table).where(index.same_row(index.documents)))
    return list(session.scalars(select(index.documents.c.id).where(~row)))
