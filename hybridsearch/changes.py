"""Keys whose rows have changed, as the triggers note them: what the words are made of anew.

note(session, articles, [(17,)])
note_unnoted(session, articles, [(17,)])        # nothing: it is noted already
note_gone(session, articles)                    # the documents that have no row any more
notify(session, articles)                       # wakes the workers when the transaction is committed
"""

from collections.abc import Sequence

from sqlalchemy import and_, column, exists, func, insert, literal, select, text
from sqlalchemy.orm import Session

from hybridsearch.content import Key, key_arrays, keys_as_rows
from hybridsearch.definition import NOTIFIES
from hybridsearch.model import SearchIndex
from hybridsearch.state import CHANNEL, qualified_name

FEW = 500  # keys that are looked through for others
GONE = 1000  # keys in a row of changes


def note(session: Session, index: SearchIndex, keys: Sequence[Key]) -> None:
    """Note keys as changed, as the triggers do."""
    if keys:
        arrays = dict(zip(index.key_names, key_arrays(index, keys), strict=True))
        session.execute(insert(index.changes).values(arrays))


def note_unnoted(session: Session, index: SearchIndex, keys: Sequence[Key]) -> None:
    """Note those keys that are not noted yet, and wake the workers; none while many are, to be asked again later."""
    if not keys:
        return
    changes, given = index.changes, keys_as_rows(index, keys)
    arrays = index.key_columns(changes)
    columns = [column(name, key.type) for name, key in zip(index.key_names, index.keys, strict=True)]
    noted = func.unnest(*arrays).table_valued(*columns).render_derived(name="noted")
    many = select(func.coalesce(func.sum(func.cardinality(arrays[0])), 0) > FEW).scalar_subquery()
    same = and_(*(given.c[name] == noted.c[name] for name in index.key_names))
    is_noted = exists(select(literal(1)).select_from(changes).join(noted, literal(True)).where(same))
    names = [given.c[name] for name in index.key_names]
    missing = [tuple(row) for row in session.execute(select(*names).where(~many, ~is_noted))]
    if missing:
        note(session, index, missing)
        notify(session, index)


def note_gone(session: Session, index: SearchIndex) -> bool:
    """Note the keys of documents that have no row any more; return whether there are any."""
    documents = index.documents
    row = exists(select(literal(1)).select_from(index.table).where(index.same_row(documents)))
    arrays = [func.array_agg(key) for key in index.key_columns(documents)]
    gone = select(*arrays).where(~row).group_by(documents.c.id // GONE)
    noted = insert(index.changes).from_select(list(index.key_names), gone).returning(index.changes.c.id)
    return bool(session.scalars(noted).all())


def notify(session: Session, index: SearchIndex) -> None:
    """Wake the workers when the transaction is committed, unless `hybridsearch.notify` is off."""
    session.execute(select(func.pg_notify(CHANNEL, qualified_name(index))).where(text(NOTIFIES)))
