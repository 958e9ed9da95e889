"""The functions run with a search_path of their own: PostgreSQL's schema, pgvector's, and temporary objects last."""

import pytest
from sqlalchemy import URL, Engine, create_engine, text

from hybridsearch.backfill import backfill
from hybridsearch.schema import migrate
from tests.support.models import articles, fill

# Functions that fit the arguments better than PostgreSQL's own of those names, which take any type: they are called
# wherever they are found.
TRAPS = """
create function {schema}.format(text, text, text) returns text language sql as 'select null::text';
create function {schema}.concat_ws(text, text, text) returns text language sql as 'select null::text';
create function {schema}.jsonb_build_object(text, integer) returns jsonb language sql as 'select null::jsonb';
create function {schema}.unnest(integer[]) returns setof integer language sql as 'select null::integer';
create function {schema}.cardinality(integer[]) returns integer language sql as 'select 1 / 0';
create function {schema}.array_agg(integer) returns integer[] language sql as 'select null::integer[]';
"""
CALL = """
select key ->> 'id', score, note
from hybridsearch.search('article', '"red chair" -blue ga*', filter => '{"id": [1, 2, 3]}', wait_ms => 0)
"""


@pytest.fixture
def apart(bare_database: URL) -> Engine:
    """A database that has pgvector in a schema of its own."""
    engine = create_engine(bare_database, connect_args={"options": "-c search_path=public,extensions"})
    with engine.begin() as connection:
        connection.execute(text("create schema extensions"))
        connection.execute(text("create extension vector schema extensions"))
        migrate(connection)
    return engine


PATHS = text("""
    select oid::regprocedure::text as name, substr(setting, length('search_path=') + 1) as path
    from pg_proc
    left join lateral unnest(proconfig) as setting on setting like 'search_path=%'
    where (pronamespace = 'hybridsearch'::regnamespace or proname like 'article\\_%') and prokind = 'f'
      and prosqlbody is null  -- what it names was looked up when it was made
""")
# These may have none of their own, the first to be inlined, the others for speed: they name everything with its schema.
WITHOUT = {"hybridsearch.as_text(text)", "hybridsearch.as_text(anyelement)", "article_inserted()", "article_updated()"}


@pytest.mark.parametrize("place", ["public", "extensions"])
def test_every_function_has_a_fixed_path(place: str, request: pytest.FixtureRequest) -> None:
    engine = request.getfixturevalue("engine" if place == "public" else "apart")
    fill(engine, articles())
    with engine.connect() as connection:
        found = dict(tuple(row) for row in connection.execute(PATHS))
    assert {name for name, path in found.items() if path is None} == WITHOUT
    assert set(found.values()) - {None} == {"pg_catalog, pg_temp", f"pg_catalog, {place}, pg_temp"}
    engine.dispose()


def test_what_stands_in_public_is_not_called_where_pgvector_does_not(apart: Engine) -> None:
    made = articles()
    fill(apart, made)
    backfill(apart, made.index)
    with apart.connect() as connection:
        expected = connection.execute(text(CALL)).all()
        assert [row[0] for row in expected] == ["1"]
    with apart.begin() as connection:
        for schema in ("public", "pg_temp"):
            connection.exec_driver_sql(TRAPS.format(schema=schema))
        # Tables of the session's own do not hide ours either.
        connection.exec_driver_sql("create temporary table article_document (id integer)")
        assert connection.execute(text(CALL)).all() == expected
    apart.dispose()
