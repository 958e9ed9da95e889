"""A role that is no superuser gets its queries encoded over a foreign server with a password."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session

from hybridsearch import ConfigurationError
from hybridsearch.indexing import index_rows
from hybridsearch.query_cache import digest_of
from hybridsearch.requests import answer, answering
from hybridsearch.schema import migrate
from tests.support.encoders import BrokenEncoder, WordHashEncoder
from tests.support.models import articles, fill

GRANTS = """
create extension dblink;
create role {role} login password 'secret';
grant usage on schema hybridsearch to {role};
grant select on all tables in schema public, hybridsearch to {role};
grant insert, delete on hybridsearch.encoding_request to {role};
create server hybridsearch foreign data wrapper dblink_fdw
    options (host '{host}', port '{port}', dbname '{database}', connect_timeout '2');
grant usage on foreign server hybridsearch to {role};
"""
MAPPING = "create user mapping for {role} server hybridsearch options (user '{role}', password 'secret')"
CALL = text("select distinct note from article_search(:query, wait_ms => :wait)")


@pytest.fixture
def owner(guarded_server: URL) -> Iterator[Engine]:
    """A database of the test's own on the server that asks for passwords."""
    name = f"requests_{uuid.uuid4().hex[:8]}"
    admin = create_engine(guarded_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"create database {name}"))
    engine = create_engine(guarded_server.set(database=name))
    with engine.begin() as connection:
        migrate(connection)
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
        connection.execute(text("drop role if exists clerk"))
    admin.dispose()


def note(engine: Engine, query: str, wait: int = 10_000) -> str | None:
    with engine.connect() as connection:
        said: str | None = connection.scalar(CALL, {"query": query, "wait": wait})
        return said


def test_a_role_without_rights_of_its_own_is_answered(owner: Engine) -> None:
    shop = articles()
    fill(owner, shop)
    with Session(owner) as session:
        for _ in index_rows(session, shop.index):
            session.commit()
    with owner.begin() as connection:
        place = {"role": "clerk", "database": owner.url.database}
        for name, setting in (("host", "unix_socket_directories"), ("port", "port")):
            place[name] = connection.scalar(text(f"show {setting}"))
        connection.exec_driver_sql(GRANTS.format(**place))
    clerk = create_engine(owner.url.set(username="clerk", password="secret"))
    with answering(owner, [shop.index]):
        assert "a worker cannot be asked: user mapping not found" in str(note(clerk, "red"))
        with owner.begin() as connection:
            connection.exec_driver_sql(MAPPING.format(**place))
        while (said := note(clerk, "red")) == "no worker is running that could encode the query":
            pass
        assert said is None
    clerk.dispose()


def test_a_query_that_cannot_be_encoded_spoils_no_other(engine: Engine) -> None:
    encoder = BrokenEncoder()
    shop = articles(encoder=encoder)
    fill(engine, shop)
    with engine.begin() as connection:
        connection.execute(text("create extension dblink"))
    with Session(engine) as session:
        for _ in index_rows(session, shop.index):
            session.commit()
    with answering(engine, [shop.index]):
        while note(engine, "table") == "no worker is running that could encode the query":
            pass
        encoder.broken = "raises"
        assert note(engine, "red", 200) == "no worker encoded the query within 200 ms"
        encoder.broken = None
        assert note(engine, "red") is None


def test_what_workers_encode_is_bounded_as_what_processes_keep(engine: Engine) -> None:
    encoder = WordHashEncoder()
    request = text("""
        insert into hybridsearch.encoding_request (fingerprint, digest, query) values (:fingerprint, :digest, :query)
    """)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for n in range(12):
            digest = digest_of(f"red {n}")
            connection.execute(request, {"fingerprint": encoder.fingerprint, "digest": digest, "query": f"red {n}"})
            answer(connection, {encoder.fingerprint: encoder}, shared_size=5)
        kept = set(connection.scalars(text("select digest from hybridsearch.query_encoding")))
    assert kept == {digest_of(f"red {n}") for n in range(7, 12)}


def test_who_gives_up_takes_no_request_of_another_away(engine: Engine) -> None:
    shop = articles()
    fill(engine, shop)
    with engine.begin() as connection:
        connection.execute(text("create extension dblink"))
    with Session(engine) as session:
        for _ in index_rows(session, shop.index):
            session.commit()
    encoder = shop.index.encoder
    requests = text("select count(*) from hybridsearch.encoding_request")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as worker, ThreadPoolExecutor() as pool:
        # A worker that is there, and takes its time.
        lock = "select pg_advisory_lock_shared(hybridsearch.answering_lock(), hashtext(:fingerprint))"
        worker.execute(text(lock), {"fingerprint": encoder.fingerprint})
        patient = pool.submit(note, engine, "red", 60_000)
        while not worker.scalar(requests):
            pass
        for _ in range(2):
            assert note(engine, "red", 50) == "no worker encoded the query within 50 ms"
        assert worker.scalar(requests) == 1
        answer(worker, {encoder.fingerprint: encoder})
        assert patient.result(30) is None
        # With nobody left who waits, it is withdrawn: by the last of several, whoever that is.
        assert set(pool.map(note, [engine] * 5, ["blue"] * 5, [50] * 5)) == {"no worker encoded the query within 50 ms"}
        assert worker.scalar(requests) == 0


def test_the_thread_opens_a_lost_connection_again(engine: Engine) -> None:
    shop = articles()
    fill(engine, shop)
    with engine.begin() as connection:
        connection.execute(text("create extension dblink"))
    with Session(engine) as session:
        for _ in index_rows(session, shop.index):
            session.commit()
    with answering(engine, [shop.index]):
        while note(engine, "table") is not None:
            pass
        with engine.begin() as connection:
            killed = connection.scalar(
                text("""
                    select count(*) from pg_stat_activity, pg_terminate_backend(pid)
                    where datname = current_database() and pid in (select pid from pg_locks where locktype = 'advisory')
                """)
            )
        assert killed == 1
        while note(engine, "shelf") is not None:
            pass


def test_another_driver_is_refused() -> None:
    engine = create_engine("postgresql+asyncpg://nobody@localhost/nothing")
    with pytest.raises(ConfigurationError, match="through psycopg: the engine uses asyncpg"), answering(engine, []):
        pass
