"""What the database knows of a filled index: which encoder made its vectors; and the locks that its keepers share.

One row of hybridsearch.index a filled index. An index that was never filled has none, and any encoder may begin.
"""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    DateTime,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    delete,
    func,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, OID, insert
from sqlalchemy.orm import Session

from hybridsearch.encoders import Encoder
from hybridsearch.errors import EncoderMismatch
from hybridsearch.model import SearchIndex
from hybridsearch.routines import SCHEMA

filled = Table(
    "index",
    MetaData(schema=SCHEMA),
    Column("name", Text, primary_key=True),
    Column("encoder", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("filled_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("partitions", ARRAY(Text)),
)


_attributes = Table(
    "pg_attribute",
    MetaData(schema="pg_catalog"),
    Column("attrelid", OID),
    Column("attname", Text),
    Column("atttypmod", Integer),
)

CHANNEL = "hybridsearch"
"""What the triggers notify; the payload is the index's qualified name."""


def qualified_name(index: SearchIndex) -> str:
    """Return the index's name in the database: with its schema where it has one."""
    return index.name if index.table.schema is None else f"{index.table.schema}.{index.name}"


def lock_key(index: SearchIndex, work: str) -> ColumnElement[int]:
    """Return the number of the advisory lock of a kind of work on an index: words, partitions, load, graph, upkeep."""
    return func.hashtextextended(f"hybridsearch:{work}:{qualified_name(index)}", 0)


def lock(session: Session, index: SearchIndex, work: str, *, wait: bool = True) -> bool:
    """Take the lock of a kind of work on an index for this transaction; False where another has it and no `wait`."""
    key = lock_key(index, work)
    if wait:
        session.execute(select(func.pg_advisory_xact_lock(key)))
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(key))))


def check_encoder(session: Session, index: SearchIndex, encoder: Encoder | None = None) -> None:
    """Raise EncoderMismatch if the index was filled by another encoder than this one (by default, the declared one)."""
    check_filler(index, session.execute(_filler(index)).one_or_none(), encoder)


def told_by(index: SearchIndex, statement: Select[Any]) -> Select[Any]:
    """Return the statement with columns that say which encoder filled the index, for `check_filler`."""
    filler = _filler(index).cte("filler")
    # The first that the server looks for: where it was never migrated, the error says so.
    return statement.add_cte(filler).add_columns(*filler.c).outerjoin(filler, true())


def _filler(index: SearchIndex) -> Select[Any]:
    mine = filled.c.name == qualified_name(index)
    return select(filled.c.encoder, filled.c.fingerprint, filled.c.dimensions).where(mine)


def check_filler(index: SearchIndex, found: Any, encoder: Encoder | None = None) -> None:
    """Raise as `check_encoder` does, by a row with the columns of `told_by`; without one, nothing filled the index."""
    ours = encoder or index.encoder
    if found is None or found.fingerprint in (None, ours.fingerprint):
        return
    raise EncoderMismatch(
        f'index "{index.name}" was filled by encoder "{found.encoder}" ({found.dimensions} dimensions, '
        f'{found.fingerprint}), this one is "{ours.name}" ({ours.dimensions} dimensions, {ours.fingerprint}): '
        f"index again with rebuild, or go back to the former encoder"
    )


def register_encoder(session: Session, index: SearchIndex) -> None:
    """Note that the index is filled by its declared encoder; raise EncoderMismatch if it was by another one.

    Also where the column of vectors has other dimensions: before anything is written.
    """
    _check_dimensions(session, index)
    session.execute(
        insert(filled)
        .values(
            name=qualified_name(index),
            encoder=index.encoder.name,
            fingerprint=index.encoder.fingerprint,
            dimensions=index.encoder.dimensions,
        )
        .on_conflict_do_nothing(index_elements=[filled.c.name])
    )
    check_encoder(session, index)


def _check_dimensions(session: Session, index: SearchIndex) -> None:
    name = session.get_bind().dialect.identifier_preparer.format_table(index.chunks)
    # pgvector keeps the dimensions as they are given, in the type's modifier.
    found = session.scalar(
        select(_attributes.c.atttypmod).where(
            _attributes.c.attrelid == func.to_regclass(name), _attributes.c.attname == "dense"
        )
    )
    if found is not None and found != index.storage.dimensions:
        raise EncoderMismatch(
            f'index "{index.name}": the column and encoder "{index.encoder.name}" ({index.storage.dimensions} '
            f"dimensions) differ (it has {found}): migrate the column and reindex, or choose another encoder"
        )


def hold_encoder(session: Session, index: SearchIndex) -> None:
    """Raise EncoderMismatch unless the index is the declared encoder's, and keep it so until the transaction ends.

    The first lock that a worker takes, before those of documents, chunks, and places in the queue.
    """
    mine = select(filled.c.fingerprint).where(filled.c.name == qualified_name(index)).with_for_update(read=True)
    # A statement that waited for a rebuild finds that the row is gone, and the next one, the row in its place.
    held = session.scalar(mine) or session.scalar(mine)
    if held is None:
        raise EncoderMismatch(f'index "{index.name}" was emptied meanwhile: start again')
    if held != index.encoder.fingerprint:
        check_encoder(session, index)


def forget_encoder(session: Session, index: SearchIndex) -> None:
    """Forget which encoder filled the index: it is about to be filled anew."""
    session.execute(delete(filled).where(filled.c.name == qualified_name(index)))
