"""What the database knows of a filled index: which encoder made its vectors.

One row of hybridsearch.index a filled index. An index that was never filled has none, and any encoder may begin.
"""

from sqlalchemy import Column, DateTime, Integer, MetaData, Table, Text, delete, func, select
from sqlalchemy.dialects.postgresql import insert
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
)


def qualified_name(index: SearchIndex) -> str:
    """Return the index's name in the database: with its schema where it has one."""
    return index.name if index.table.schema is None else f"{index.table.schema}.{index.name}"


def check_encoder(session: Session, index: SearchIndex, encoder: Encoder | None = None) -> None:
    """Raise EncoderMismatch if the index was filled by another encoder than this one (by default, the declared one)."""
    ours = encoder or index.encoder
    found = session.execute(
        select(filled.c.encoder, filled.c.fingerprint, filled.c.dimensions).where(
            filled.c.name == qualified_name(index)
        )
    ).one_or_none()
    if found is None or found.fingerprint == ours.fingerprint:
        return
    raise EncoderMismatch(
        f'index "{index.name}" was filled by encoder "{found.encoder}" ({found.dimensions} dimensions, '
        f'{found.fingerprint}), this one is "{ours.name}" ({ours.dimensions} dimensions, {ours.fingerprint}): '
        f"index again with rebuild, or go back to the former encoder"
    )


def register_encoder(session: Session, index: SearchIndex) -> None:
    """Note that the index is filled by its declared encoder; raise EncoderMismatch if it was by another one."""
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


def forget_encoder(session: Session, index: SearchIndex) -> None:
    """Forget which encoder filled the index: it is about to be filled anew."""
    session.execute(delete(filled).where(filled.c.name == qualified_name(index)))
