"""The schema `hybridsearch`: applied once, by however many at once, whole or not at all."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, inspect, literal_column, select, text
from sqlalchemy.exc import ProgrammingError

from hybridsearch import ExtensionMissing, SchemaMissing, schema
from hybridsearch.schema import SCHEMA, ledger, migrate, pending, scripts
from tests.support.old_pgvector import VERSION, old_server

ROOT = Path(__file__).resolve().parents[2]
MIGRATE = """
import sys
from sqlalchemy import create_engine
from hybridsearch.schema import migrate
engine = create_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
with engine.begin() as connection:
    print(*migrate(connection))
"""


@pytest.fixture
def bare_engine(bare_database: URL) -> Iterator[Engine]:
    engine = create_engine(bare_database)
    yield engine
    engine.dispose()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a release, copied to where a test can change them."""
    for name in ("MIGRATIONS", "FUNCTIONS"):
        shutil.copytree(getattr(schema, name), tmp_path / name)
        monkeypatch.setattr(schema, name, tmp_path / name)
    return tmp_path


def entries(connection: Connection) -> dict[str, str]:
    return {row.name: row.checksum for row in connection.execute(select(ledger.c.name, ledger.c.checksum))}


def append(path: Path, sql: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + sql, encoding="utf-8")


def is_written(engine: Engine) -> bool:
    return inspect(engine).has_schema(SCHEMA)


def test_the_first_run_applies_every_file_in_order_and_the_second_none(bare_engine: Engine) -> None:
    shipped = [script.name for script in scripts()]
    assert shipped[0] == "0001_schema.sql"
    with bare_engine.begin() as connection:
        assert pending(connection) == shipped
        assert migrate(connection) == shipped
    with bare_engine.begin() as connection:
        assert pending(connection) == []
        assert migrate(connection) == []


def test_the_ledger_holds_name_checksum_and_time_of_what_ran(engine: Engine) -> None:
    with engine.connect() as connection:
        assert entries(connection) == {script.name: script.checksum for script in scripts()}
        assert connection.scalar(select(ledger.c.applied_at <= text("now()")).limit(1))


def test_two_processes_at_once_both_succeed_and_one_applies(bare_engine: Engine) -> None:
    address = bare_engine.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATE, address],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, results, strict=True)] == [
        (0, "")
    ] * 2
    assert sorted(out.split() for out, _ in results) == [[], [script.name for script in scripts()]]


def test_an_edited_migration_is_refused(engine: Engine, files: Path) -> None:
    append(files / "MIGRATIONS" / "0001_schema.sql", "\n-- another thought\n")
    with engine.begin() as connection:
        before = entries(connection)
        with pytest.raises(SchemaMissing, match=r"0001_schema\.sql was applied .* another text: .* restore the file"):
            migrate(connection)
    with engine.connect() as connection:
        assert entries(connection) == before


def test_a_database_of_a_newer_release_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("insert into hybridsearch.migration (name, checksum) values ('9001_later.sql', '')"))
        before = entries(connection)
        with pytest.raises(SchemaMissing, match=r"has migration 9001_later\.sql, which .* migrated by a newer one"):
            migrate(connection)
        assert entries(connection) == before


def test_a_changed_file_of_functions_is_applied_again(engine: Engine, files: Path) -> None:
    function = "create or replace function hybridsearch.answer() returns integer language sql as 'select 42';"
    append(files / "FUNCTIONS" / "analysis.sql", f"\n{function}\n")
    with engine.begin() as connection:
        assert pending(connection) == ["analysis.sql"]
        assert migrate(connection) == ["analysis.sql"]
        assert connection.scalar(text("select hybridsearch.answer()")) == 42
        assert entries(connection) == {script.name: script.checksum for script in scripts()}
        assert migrate(connection) == []


def test_a_new_migration_runs_alone(engine: Engine, files: Path) -> None:
    (files / "MIGRATIONS" / "0002_more.sql").write_text("create table hybridsearch.more (id integer);")
    with engine.begin() as connection:
        assert migrate(connection) == ["0002_more.sql"]
        assert inspect(connection).has_table("more", schema=SCHEMA)


def test_a_failure_leaves_nothing(bare_engine: Engine, files: Path) -> None:
    (files / "MIGRATIONS" / "0002_wrong.sql").write_text(
        "create table hybridsearch.half (id integer); select 1/nothing;"
    )
    with pytest.raises(ProgrammingError, match="nothing"), bare_engine.begin() as connection:
        migrate(connection)
    assert not is_written(bare_engine)
    with bare_engine.connect() as connection:
        assert connection.scalar(text("select count(*) from pg_extension where extname = 'vector'")) == 0


def test_an_extension_that_was_dropped_comes_back(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("drop extension vector cascade"))
        assert migrate(connection) == []
        assert connection.scalar(text("select count(*) from pg_extension where extname = 'vector'")) == 1


def test_it_is_the_callers_transaction(bare_engine: Engine) -> None:
    with bare_engine.connect() as connection:
        migrate(connection)
        connection.rollback()
    assert not is_written(bare_engine)


def test_the_callers_connection_is_left_as_it_was(bare_engine: Engine) -> None:
    with bare_engine.begin() as connection:
        options = dict(connection.get_execution_options())
        migrate(connection)
        assert dict(connection.get_execution_options()) == options
        assert connection.scalar(select(literal_column("7 % 4"))) == 3


def test_pgvector_0_6_is_refused_and_nothing_is_written() -> None:
    with old_server() as address:
        engine = create_engine(address)
        for installed in (False, True):
            if installed:
                with engine.begin() as connection:
                    connection.execute(text("create extension vector"))
            with pytest.raises(ExtensionMissing) as refusal, engine.begin() as connection:
                migrate(connection)
            assert f"pgvector {VERSION} is too old, hybridsearch needs 0.7 or later" in str(refusal.value)
            assert "install a newer package of pgvector on the server" in str(refusal.value)
            assert not is_written(engine)
        engine.dispose()


def test_an_old_extension_on_a_new_server_is_answered_with_the_statement_that_updates_it(bare_engine: Engine) -> None:
    with bare_engine.begin() as connection:
        connection.execute(text("create extension vector"))
        # What an upgrade of the server's package leaves behind.
        connection.execute(text("update pg_extension set extversion = '0.6.2' where extname = 'vector'"))
    refused = pytest.raises(ExtensionMissing, match=r"pgvector 0\.6\.2 is too old.*alter extension vector update")
    with refused, bare_engine.begin() as connection:
        migrate(connection)
    assert not is_written(bare_engine)
