"""Notice what happens to whole partitions, which fires no trigger: attached, detached, truncated.

notice(session, notes)      # True: rows were noted as changed

hybridsearch.index keeps in which files the partitions of the model's table were. Where there is another one, the keys
of its rows are noted as changed; where one is gone, the keys of documents that have no row any more.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Select, Table, Text, cast, column, func, insert, select, update
from sqlalchemy import table as named
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.orm import Session

from hybridsearch.changes import note_gone, notify
from hybridsearch.lexical import relation
from hybridsearch.model import SearchIndex
from hybridsearch.state import filled, lock, qualified_name

KEYS = 1000  # in a row of the change table

_catalog = MetaData(schema="pg_catalog")
_classes = Table(
    "pg_class",
    _catalog,
    Column("oid", OID),
    Column("relname", Text),
    Column("relnamespace", OID),
    Column("relfilenode", OID),
)
_namespaces = Table("pg_namespace", _catalog, Column("oid", OID), Column("nspname", Text))


def notice(session: Session, index: SearchIndex) -> bool:
    """Note what partitions have brought or taken since the last time; return whether there were any.

    The first time nothing is noted: `hybridsearch index` reads every row.
    """
    if not lock(session, index, "partitions", wait=False):
        return False
    mine = filled.c.name == qualified_name(index)
    row = session.execute(select(filled.c.partitions).where(mine)).one_or_none()
    partitions = {row[2]: (row[0], row[1]) for row in session.execute(_partitions(index))}
    if row is None or row.partitions == sorted(partitions):
        return False
    session.execute(update(filled).where(mine).values(partitions=sorted(partitions)))
    if row.partitions is None:
        return False
    for file in partitions.keys() - set(row.partitions):
        _note_rows(session, index, *partitions[file])
    if set(row.partitions) - partitions.keys():
        note_gone(session, index)
    notify(session, index)
    return True


def _partitions(index: SearchIndex) -> Select[Any]:
    """Schema, name and file of every partition that holds rows; TRUNCATE gives it another file."""
    tree = func.pg_partition_tree(relation(index.table)).table_valued(column("relid", OID), column("isleaf"))
    file = cast(_classes.c.oid, Text).concat("/").concat(cast(_classes.c.relfilenode, Text))
    return (
        select(_namespaces.c.nspname, _classes.c.relname, file)
        .join_from(tree, _classes, _classes.c.oid == cast(tree.c.relid, OID))
        .join(_namespaces, _namespaces.c.oid == _classes.c.relnamespace)
        .where(tree.c.isleaf)
    )


def _note_rows(session: Session, index: SearchIndex, schema: str, name: str) -> None:
    """Note the keys of all rows of a partition."""
    rows = named(name, *(column(key.name, key.type) for key in index.keys), schema=schema)
    part = (cast(func.row_number().over(), BigInteger) // KEYS).label("part")
    numbered = select(*(rows.c[key.name] for key in index.keys), part).subquery("numbered")
    arrays = select(*(func.array_agg(numbered.c[key.name]) for key in index.keys)).group_by(numbered.c.part)
    session.execute(insert(index.changes).from_select(list(index.key_names), arrays))
