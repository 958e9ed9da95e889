"""Free the space of dead rows where there are many: upkeep writes rows anew faster than autovacuum comes round.

    sweeper = Sweeper(engine)
    sweeper.sweep(articles)         # on a connection of its own, outside any transaction

The chunks are left to autovacuum, for their HNSW index makes it long; so are tables that the role may not vacuum.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from sqlalchemy import Connection, Engine, text

from hybridsearch.model import SearchIndex
from hybridsearch.state import qualified_name

SHARE = 0.1  # of a table, its indexes included, that is worth it when dead
LEAST = 2**20  # bytes
PAUSE = 4  # times as long as it took: a long transaction of somebody else keeps what is dead in its place

_WORTH = text("""
    select given.name
    from unnest(cast(:names as text[])) as given(name)
    join pg_catalog.pg_class as class on class.oid = to_regclass(given.name)
    where case
              when pg_has_role(class.relowner, 'USAGE') then true
              when current_setting('server_version_num')::int4 >= 170000 then has_table_privilege(class.oid, 'MAINTAIN')
          end
      and (select sum(pg_relation_size(part.oid) * part.dead / greatest(part.dead + part.live, 1))
           from (select oid, pg_stat_get_dead_tuples(oid) as dead, pg_stat_get_live_tuples(oid) as live
                 from unnest(array[class.oid, nullif(class.reltoastrelid, 0)]) as parts(oid)) as part
          ) >= greatest(:share * pg_total_relation_size(class.oid), :least)
""")


class Sweeper:
    """Vacuums the companion tables of indexes, for at most a fifth of the time each."""

    def __init__(
        self, engine: Engine, during: Callable[[Connection], AbstractContextManager[object]] = lambda _: nullcontext()
    ) -> None:
        """`during` is entered with the connection while a table is vacuumed."""
        self.engine = engine
        self.during = during
        self._until: dict[str, float] = {}

    def sweep(self, index: SearchIndex) -> list[str]:
        """Vacuum the tables of an index in which much is dead; return their names. What somebody has locked waits."""
        began = time.monotonic()
        if began < self._until.get(qualified_name(index), began):
            return []
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            quoted = connection.dialect.identifier_preparer.format_table
            names = [quoted(table) for table in index.tables if table is not index.chunks]
            found = list(connection.scalars(_WORTH, {"names": names, "share": SHARE, "least": LEAST}))
            with self.during(connection):
                for name in found:
                    connection.exec_driver_sql(f"vacuum (skip_locked) {name}")
        if found:
            now = time.monotonic()
            self._until[qualified_name(index)] = now + PAUSE * (now - began)
        return found
