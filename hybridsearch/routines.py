"""Make and keep the routines of an index in a database: in the migration that makes its tables, and at every release.

    define(connection, definition)          # True if anything was to be done
    undefine(connection, "article")
    define_again(connection)                # after an update of this library, for every index of the database

The table hybridsearch.definition says which routines there are, and of which text they were made.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg import sql
from sqlalchemy import ARRAY, JSON, Column, Connection, DateTime, MetaData, Row, Table, Text, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from hybridsearch.definition import Definition, functions, script
from hybridsearch.errors import SchemaMissing

SCHEMA = "hybridsearch"

definitions = Table(
    "definition",
    MetaData(schema=SCHEMA),
    Column("name", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("checksum", Text, nullable=False),
    Column("routines", ARRAY(Text), nullable=False),
    Column("triggers", ARRAY(Text), nullable=False),
    Column("defined_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)


def stored(connection: Connection) -> dict[str, Definition]:
    """Return the indexes that the database knows, by qualified name; none where our schema is missing."""
    if not _is_ready(connection):
        return {}
    rows = connection.execute(select(definitions.c.name, definitions.c.definition))
    return {row.name: Definition.model_validate(row.definition) for row in rows}


def define(connection: Connection, definition: Definition) -> bool:
    """Make the routines of an index, unless they are there as they should be; return whether they were made.

    In the caller's transaction. Raises SchemaMissing where `hybridsearch migrate` has not run, or the model's table
    does not exist.
    """
    if not _is_ready(connection):
        raise SchemaMissing(
            f'index "{definition.name}" cannot be defined: the schema of hybridsearch is missing or old, '
            f"run `hybridsearch migrate` first"
        )
    namespace = connection.scalar(_NAMESPACE, {"table": _path(definition)})
    if namespace is None:
        raise SchemaMissing(f'index "{definition.name}" cannot be defined: there is no table "{definition.table}"')
    return _define(connection, definition, namespace)


def undefine(connection: Connection, name: str) -> None:
    """Drop the routines of an index, by its qualified name; its tables are another matter. Harmless if unknown."""
    if not _is_ready(connection):
        return
    gone = delete(definitions).where(definitions.c.name == name).returning(definitions.c.routines)
    with _search_path(connection):
        for names in connection.scalars(gone).all():
            _drop(connection, names)


def define_again(connection: Connection) -> list[str]:
    """Make the routines of every known index that this release makes otherwise; return the indexes' names.

    An index whose table is gone is forgotten.
    """
    made = []
    for row in _outdated(connection):
        definition = Definition.model_validate(row.definition)
        table = sql.Identifier(row.namespace, definition.table).as_string()
        if connection.scalar(_NAMESPACE, {"table": table}) is None:
            undefine(connection, row.name)
        elif _define(connection, definition, row.namespace):
            made.append(row.name)
    return made


def outdated(connection: Connection) -> list[str]:
    """Return the names of the known indexes whose routines this release makes otherwise."""
    return [row.name for row in _outdated(connection)]


def _outdated(connection: Connection) -> list[Row[Any]]:
    rows = connection.execute(select(definitions)) if _is_ready(connection) else ()
    return [row for row in rows if row.checksum != _checksum(Definition.model_validate(row.definition), row.namespace)]


def _checksum(definition: Definition, namespace: str) -> str:
    return hashlib.sha256(script(definition, namespace).encode()).hexdigest()


def _is_ready(connection: Connection) -> bool:
    return connection.scalar(select(func.to_regclass(f"{SCHEMA}.{definitions.name}"))) is not None


def _path(definition: Definition) -> str:
    """The model's table as the caller's search_path finds it."""
    parts = (definition.table,) if definition.namespace is None else (definition.namespace, definition.table)
    return sql.Identifier(*parts).as_string()


def _define(connection: Connection, definition: Definition, namespace: str) -> bool:
    connection.execute(_LOCK)
    same = definitions.c.name == definition.qualified_name
    found = connection.execute(select(definitions).where(same)).one_or_none()
    wanted = _checksum(definition, namespace)
    if (
        found is not None
        and found.checksum == wanted
        and Definition.model_validate(found.definition) == definition
        and connection.scalar(_ARE_THERE, {"routines": found.routines, "triggers": found.triggers})
    ):
        return False
    names = {"namespace": namespace, "names": functions(definition)}
    with _search_path(connection):
        before = list(connection.scalars(_VERSIONS, names))
        # Without parameters the driver sends the text as it is: several statements, and no meaning for %.
        connection.exec_driver_sql(script(definition, namespace), execution_options={"no_parameters": True})
        made = connection.execute(_MADE, {**names, "before": before}).one()
        _drop(connection, [name for name in (found.routines if found else ()) if name not in made.routines])
    row = {
        "namespace": namespace,
        "definition": definition.model_dump(mode="json"),
        "checksum": wanted,
        "routines": made.routines,
        "triggers": made.triggers,
    }
    entry = insert(definitions).values(name=definition.qualified_name, **row)
    connection.execute(
        entry.on_conflict_do_update(index_elements=[definitions.c.name], set_={**row, "defined_at": func.now()})
    )
    return True


def _drop(connection: Connection, names: Sequence[str]) -> None:
    """Drop functions, and the triggers that call them."""
    for statement in connection.scalars(_DROPS, {"routines": list(names)}).all():
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


@contextmanager
def _search_path(connection: Connection) -> Iterator[None]:
    """The search_path that functions keep by `set search_path from current`; bodies may name what comes later."""
    connection.execute(_SET)
    yield
    connection.execute(_RESET)


_LOCK = text("select pg_advisory_xact_lock(hashtextextended('hybridsearch.definition', 0))")
_NAMESPACE = text("""
    select namespace.nspname
    from pg_catalog.pg_class as class
    join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
    where class.oid = to_regclass(:table)
""")
# pgvector may be installed in any schema.
_SET = text("""
    select set_config('hybridsearch.search_path', current_setting('search_path'), true),
           set_config('hybridsearch.check_function_bodies', current_setting('check_function_bodies'), true),
           set_config('search_path', format('pg_catalog, %I, pg_temp', namespace.nspname), true),
           set_config('check_function_bodies', 'off', true)
    from pg_catalog.pg_extension as extension
    join pg_catalog.pg_namespace as namespace on namespace.oid = extension.extnamespace
    where extension.extname = 'vector'
""")
_RESET = text("""
    select set_config('search_path', current_setting('hybridsearch.search_path'), true),
           set_config('check_function_bodies', current_setting('hybridsearch.check_function_bodies'), true)
""")
# The place of a row of a system table changes when it is written: what was there before is not made now.
_VERSIONS = text("""
    select format('%s %s', routine.oid, routine.ctid)
    from pg_catalog.pg_proc as routine
    join pg_catalog.pg_namespace as namespace on namespace.oid = routine.pronamespace
    where namespace.nspname = :namespace and routine.proname = any(:names)
""")
# Functions and triggers are known by texts that any search_path reads alike: "shop.article_best(integer[], integer)".
_MADE = text("""
    select coalesce(array_agg(distinct made.routine), '{}') as routines,
           coalesce(array_agg(distinct made.trigger) filter (where made.trigger is not null), '{}') as triggers
    from (select format('%I.%I(%s)', namespace.nspname, routine.proname,
                        (select string_agg(format('%I.%I', place.nspname, type.typname), ', ' order by argument.number)
                         from unnest(routine.proargtypes) with ordinality as argument(oid, number)
                         join pg_catalog.pg_type as type on type.oid = argument.oid
                         join pg_catalog.pg_namespace as place on place.oid = type.typnamespace)) as routine,
                 case when trigger.oid is not null
                      then format('%I on %I.%I', trigger.tgname, space.nspname, class.relname)
                 end as trigger
          from pg_catalog.pg_proc as routine
          join pg_catalog.pg_namespace as namespace on namespace.oid = routine.pronamespace
          left join pg_catalog.pg_trigger as trigger on trigger.tgfoid = routine.oid and not trigger.tgisinternal
          left join pg_catalog.pg_class as class on class.oid = trigger.tgrelid
          left join pg_catalog.pg_namespace as space on space.oid = class.relnamespace
          where namespace.nspname = :namespace
            and routine.proname = any(:names)
            and format('%s %s', routine.oid, routine.ctid) <> all(cast(:before as text[]))) as made
""")
_ARE_THERE = text("""
    select not exists (select from unnest(cast(:routines as text[])) as name where to_regprocedure(name) is null)
       and not exists (select
                       from unnest(cast(:triggers as text[])) as name
                       where name not in (select format('%I on %I.%I', trigger.tgname, space.nspname, class.relname)
                                          from pg_catalog.pg_trigger as trigger
                                          join pg_catalog.pg_class as class on class.oid = trigger.tgrelid
                                          join pg_catalog.pg_namespace as space on space.oid = class.relnamespace))
""")
_DROPS = text("""
    select statement
    from (select 1 as step, format('drop trigger %I on %s', trigger.tgname, trigger.tgrelid::regclass) as statement
          from pg_catalog.pg_trigger as trigger
          where trigger.tgfoid in (select to_regprocedure(name) from unnest(cast(:routines as text[])) as name)
            and not trigger.tgisinternal
            and trigger.tgparentid = 0
          union all
          select 2, format('drop function if exists %s', name)
          from unnest(cast(:routines as text[])) as name
          where to_regprocedure(name) is not null) as statements
    order by step
""")
