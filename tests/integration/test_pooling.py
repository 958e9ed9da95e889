"""One server connection that serves several clients by turns, a transaction each: what PgBouncer's pooling makes of it.

The harness is psycopg alone: the connection stays open while clients come and go, and nothing resets it between them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.rows import namedtuple_row
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.query_cache import SharedStore
from hybridsearch.requests import answering
from tests.support.models import articles, fill
from tests.support.servers import libpq_address

SEARCH = "select * from article_search(%s, 10, %s::jsonb, candidates => %s, wait_ms => %s)"
# What one client could leave behind for the next.
STATE = """
select (select coalesce(jsonb_object_agg(name, setting), '{}') from pg_settings
        where source = 'session' and name not like 'transaction%') as settings,
       current_setting('hnsw.ef_search', true) as ef_search,
       current_setting('hnsw.iterative_scan', true) as iterative_scan,
       current_setting('hnsw.scan_mem_multiplier', true) as memory,
       current_user as role,
       (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks,
       (select count(*) from pg_class where relpersistence = 't') as tables,
       (select count(*) from pg_cursors where name <> '') as cursors,
       (select count(*) from pg_listening_channels()) as channels,
       (select dblink_get_connections()) as connections
"""


@dataclass
class Pool:
    """One server connection; `turn` is a client's transaction on it."""

    server: psycopg.Connection[Any]
    clean: Any = field(init=False)

    def __post_init__(self) -> None:
        self.turn("select hybridsearch.fitted('{1}', 1)")  # pgvector's settings come with its library
        self.clean = self.state()

    def turn(self, *statements: Any, expect: type[Exception] | None = None) -> list[Any]:
        """Run statements, each a text or (text, values), in one transaction; return the rows of the last."""
        rows: list[Any] = []
        try:
            with self.server.transaction(), self.server.cursor(row_factory=namedtuple_row) as cursor:
                for statement in statements:
                    sql, values = (statement, None) if isinstance(statement, str) else statement
                    cursor.execute(sql, values)
                    rows = cursor.fetchall() if cursor.description else []
        except Exception as error:
            if expect is None or not isinstance(error, expect):
                raise
        else:
            assert expect is None
        return rows

    def state(self) -> Any:
        return self.turn(STATE)[0]


@pytest.fixture(scope="module")
def shop(module_database: URL) -> Iterator[tuple[Engine, SearchIndex]]:
    engine = create_engine(module_database)
    made = articles()
    fill(engine, made)
    with Session(engine) as session, session.begin():
        session.add_all(made.Article(id=n, title=f"chair {n % 7} red", body="oak " * (n % 5)) for n in range(10, 300))
    backfill(engine, made.index)
    with engine.begin() as connection:
        connection.execute(text("create extension dblink"))
    yield engine, made.index
    engine.dispose()


@pytest.fixture(params=["every statement prepared", "none prepared"])
def pool(request: Any, shop: tuple[Engine, SearchIndex]) -> Iterator[Pool]:
    threshold = 0 if request.param == "every statement prepared" else None
    with psycopg.connect(libpq_address(shop[0].url), autocommit=True, prepare_threshold=threshold) as connection:
        yield Pool(connection)
        names = connection.execute("select count(*) from pg_prepared_statements").fetchone()
        assert names is not None
        assert (names[0] > 0) == (threshold == 0)  # the driver's own, by its choice; the functions leave none


def expected(shop: tuple[Engine, SearchIndex], query: str, **options: Any) -> list[tuple[int, float]]:
    """What Python finds; the encoding is in the shared cache afterwards."""
    engine, index = shop
    with Session(engine) as session:
        rows = session.execute(HybridSearch(index, store=SharedStore(engine)).select(query, **options))
        return [(row.article_id, pytest.approx(row.score, rel=1e-9)) for row in rows]


def pairs(rows: list[Any]) -> list[tuple[int, float]]:
    assert {row.note for row in rows} == {None}
    return [(row.article_id, row.score) for row in rows]


def test_clients_take_turns_and_find_what_each_would_alone(shop: Any, pool: Pool) -> None:
    article = shop[1].mapper.class_
    own = {
        "red chair": (None, 100, {}),
        "oak table": ({"id": {"lt": 50}}, 10, {"where": article.id < 50, "candidates": 10}),
    }
    alone = {query: expected(shop, query, **options) for query, (_, _, options) in own.items()}
    for turn in range(8):  # past five, after which PostgreSQL may change to a generic plan
        for query, (filter, candidates, _) in own.items():
            given = None if filter is None else json.dumps(filter)
            assert pairs(pool.turn((SEARCH, (query, given, candidates, 0)))) == alone[query], turn
            assert pool.state() == pool.clean


def test_nothing_of_a_transaction_is_left_for_the_next_client(shop: Any, pool: Pool) -> None:
    """Neither what the function sets, nor what a client sets for its transaction, nor what an error breaks off."""
    alone = expected(shop, "red chair")
    search = (SEARCH, ("red chair", None, 100, 0))
    pool.turn(
        "set local hnsw.ef_search = 7", "set local hnsw.iterative_scan = 'off'", "set local work_mem = '64kB'", search
    )
    assert pool.state() == pool.clean
    pool.turn((SEARCH, ("red chair", '{"id": {}}', 100, 0)), expect=psycopg.errors.InvalidParameterValue)
    assert pool.state() == pool.clean
    pool.turn(
        "set local statement_timeout = '1ms'",
        "select pg_sleep(0)",
        ("select count(*) from generate_series(1, 1000), article_search(%s, wait_ms => 0)", ("red chair",)),
        expect=psycopg.errors.QueryCanceled,
    )
    assert pool.state() == pool.clean
    assert pairs(pool.turn(search)) == alone


def test_asking_a_worker_leaves_no_connection_open(shop: Any, pool: Pool) -> None:
    engine, index = shop
    with engine.begin() as connection:
        connection.execute(text("delete from hybridsearch.query_encoding"))
    with answering(engine, [index]):
        for query in ("red oak chair", "blue oak table"):
            for _ in range(2):  # asked for, then from the cache
                while {row.note for row in pool.turn((SEARCH, (query, None, 100, 10_000)))} != {None}:
                    pass
                assert pool.state() == pool.clean
    for query in ("red oak chair", "blue oak table"):
        assert pairs(pool.turn((SEARCH, (query, None, 100, 0)))) == expected(shop, query)


# How PostgREST calls a function: a role and settings of the transaction, arguments by their names out of a JSON body.
BODY = """
with pgrst_source as (
    select pgrst_call.*
    from json_to_record(%s::json)
         as pgrst_body (query text, filter jsonb, limit_ integer, legs text[], wait_ms integer),
    lateral public.article_search(
        query => pgrst_body.query, filter => pgrst_body.filter, limit_ => pgrst_body.limit_, legs => pgrst_body.legs,
        wait_ms => pgrst_body.wait_ms
    ) as pgrst_call
)
select coalesce(json_agg(pgrst_source), '[]')::text as body from pgrst_source
"""


@pytest.fixture
def web(shop: tuple[Engine, SearchIndex]) -> Iterator[str]:
    """A role that may read, and nothing else."""
    role = "web_anon"
    with shop[0].begin() as connection:
        connection.exec_driver_sql(f"create role {role}")
        connection.exec_driver_sql(f"grant usage on schema hybridsearch to {role}")
        connection.exec_driver_sql(f"grant select on all tables in schema public, hybridsearch to {role}")
    yield role
    with shop[0].begin() as connection:
        connection.exec_driver_sql(f"drop owned by {role}")
        connection.exec_driver_sql(f"drop role {role}")


def test_a_caller_like_postgrest_is_answered_in_a_read_only_transaction(shop: Any, pool: Pool, web: str) -> None:
    article = shop[1].mapper.class_
    alone = expected(shop, "red chair", where=article.id.in_([11, 12, 13]), limit=2)
    given = {"query": "red chair", "filter": {"id": [11, 12, 13]}, "limit_": 2, "legs": None, "wait_ms": 0}
    for path in ("'public'", "'api', 'public', 'extensions'", "''"):
        rows = pool.turn(
            "set transaction read only",
            f"set local role {web}",
            f"set local search_path = {path}",
            ("select set_config('request.jwt.claims', %s, true)", ('{"role": "web_anon"}',)),
            (BODY, (json.dumps(given),)),
        )
        assert [(hit["article_id"], hit["score"]) for hit in json.loads(rows[0].body)] == alone
        assert pool.state() == pool.clean


def test_a_role_without_rights_is_refused_and_the_next_client_is_not(shop: Any, pool: Pool, web: str) -> None:
    with shop[0].begin() as connection:
        connection.exec_driver_sql(f"revoke select on article from {web}")
    call = "select * from article_search(query => 'red chair', wait_ms => 0)"
    pool.turn(f"set local role {web}", call, expect=psycopg.errors.InsufficientPrivilege)
    assert pool.state() == pool.clean
    assert len(pool.turn(call)) == 10
