"""The command line: results on standard output; an error in one line on standard error, and exit status 1."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, func, select, text
from sqlalchemy.orm import Session

from hybridsearch.backfill import backfill
from tests.support.command_line import PROGRAM, ROOT, environment, refusal, run
from tests.support.encoders import BREAKAGES
from tests.support.models import TEXTS, fill
from tests.support.shop import declared

APP = ("--app", "tests.support.shop")
COMMANDS = {
    "demo": ["--database"],
    "eval": ["--database", "--dataset", "--encoder", "--config", "--json"],
    "migrate": ["--database"],
    "index": ["--database", "--app", "--index", "--rebuild", "--throttle", "--workers", "--batch"],
    "worker": ["--database", "--app", "--index", "--once", "--batch", "--deadline", "--attempts"],
    "retry": ["--database", "--app", "--index"],
    "forget": ["--database", "--app", "--index"],
    "search": ["--database", "--app", "--index", "--limit", "--json"],
    "explain": ["--database", "--app", "--index", "--limit", "--document", "--json"],
    "status": ["--database", "--app", "--json", "--prometheus"],
}


@pytest.fixture
def tables(engine: Engine) -> URL:
    """The address of a database with the application's tables and rows, not indexed."""
    fill(engine, declared)
    return engine.url


@pytest.fixture
def shop(tables: URL, engine: Engine) -> URL:
    """The address of an indexed application."""
    backfill(engine, declared.index)
    return tables


@pytest.fixture
def user_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with an application of the user's own, named in its pyproject.toml."""
    (tmp_path / "pyproject.toml").write_text('[tool.hybridsearch]\napp = "mine.models"\n')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "models.py").write_text("from tests.support.shop import index\n")
    (tmp_path / "below").mkdir()
    return tmp_path


# What it says of itself


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(re.search(rf"\b{command}\b", done.stdout) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_its_options(command: str) -> None:
    done = run(command, "--help", COLUMNS="200")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(option in done.stdout for option in COMMANDS[command])


# From a bare database to hits


def test_the_commands_follow_each_other(bare_database: URL) -> None:
    done = run("migrate", database=bare_database)
    assert (done.returncode, done.stdout.startswith("applied 0001_schema.sql"), done.stderr) == (0, True, "")
    assert run("migrate", database=bare_database).stdout == "nothing to do: the schema is up to date\n"
    engine = create_engine(bare_database)
    fill(engine, declared)
    engine.dispose()
    first = run("index", *APP, database=bare_database)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "article: 4 rows read, 4 written, 0 removed\n"
    assert run("index", *APP, database=bare_database).stdout == "article: 4 rows read, 0 written, 0 removed\n"
    again = run("index", *APP, "--index", "article", "--rebuild", database=bare_database)
    assert again.stdout == "article: 4 rows read, 4 written, 0 removed\n"
    found = run("search", "red chair", *APP, database=bare_database, COLUMNS="120")
    assert (found.returncode, found.stderr) == (0, "")
    assert re.search(r"│\s+1 │ Red chair\s+│ 0\.0328 │\s+1 │\s+1 │", found.stdout)


def test_search_prints_json(shop: URL) -> None:
    done = run("search", "red chair", *APP, "--limit", "2", "--json", database=shop)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = json.loads(done.stdout)
    assert first["key"] == {"id": 1}
    assert first["fields"] == dict(zip(("title", "body"), TEXTS[0], strict=True))
    assert first["ranks"] == {"dense": 1, "lexical": 1}
    assert first["score"] == pytest.approx(2 / 61, abs=1e-9)
    assert (first["rank"], second["rank"]) == (1, 2)


def test_explain_prints_a_table_and_json(shop: URL) -> None:
    (first,) = json.loads(run("explain", "red chair", *APP, "--limit", "1", "--json", database=shop).stdout)
    assert first["key"] == {"id": 1}
    assert first["score"] == pytest.approx(sum(leg["share"] for leg in first["legs"].values()), abs=1e-12)
    assert {term["term"] for term in first["lexical"]["terms"]} == {"red", "chair"}
    done = run("explain", "red chair", *APP, "--limit", "1", database=shop, COLUMNS="140")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"│\s+1 │ Red chair\s+│ score\s+│\s+│ 0\.032787 │", done.stdout)
    assert f"{first['lexical']['terms'][0]['score']:.4f}" in done.stdout


def test_explain_says_what_became_of_a_document(shop: URL) -> None:
    done = run("explain", "red chair", *APP, "--document", "2", "--limit", "1", database=shop, COLUMNS="140")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"id 2\s+│ outvoted\s+│ rank \d of the fused list, after the limit of 1", done.stdout)
    missed = json.loads(run("explain", "chair", *APP, "--document", "77", "--json", database=shop).stdout)
    assert (missed["stage"], missed["key"]) == ("no such row", {"id": 77})
    assert refusal("explain", "chair", *APP, "--document", "x", database=shop) == "document key 'x': id is a int"


@pytest.fixture
def broken(tmp_path: Path, shop: URL) -> Path:
    """A folder with the same application, whose encoder fails at queries."""
    (tmp_path / "broken.py").write_text(
        "from tests.support.encoders import BrokenEncoder\nfrom tests.support.models import articles\n"
        "index = articles(encoder=BrokenEncoder('raises')).index\n"
    )
    return tmp_path


def test_a_broken_encoder_leaves_the_words_and_a_line_that_says_so(shop: URL, broken: Path) -> None:
    said = 'answered by words alone: encoder "word-hash" failed: ZeroDivisionError'
    for arguments in (("search", "red chair"), ("explain", "red chair"), ("explain", "red chair", "--document", "2")):
        command = (*arguments, "--app", "broken")
        done = run(*command, database=shop, folder=broken, COLUMNS="140")
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert done.stderr.startswith(said)
        assert "lexical" in done.stdout
        done = run(*command, "--json", database=shop, folder=broken)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert done.stderr.startswith(said)
        assert json.loads(done.stdout)
    hits = json.loads(run("search", "red chair", "--app", "broken", "--json", database=shop, folder=broken).stdout)
    assert {tuple(hit["ranks"]) for hit in hits} == {("lexical",)}


def test_unknown_words_are_put_right(shop: URL) -> None:
    for form in ((), ("--json",)):
        done = run("search", "red chiar [/b]", *APP, *form, database=shop, COLUMNS="140")
        assert (done.returncode, done.stderr) == (0, "did you mean: red chair [/b]\n")
        assert "Red chair" in done.stdout


def test_status_prints_a_table_and_json(shop: URL) -> None:
    assert "article" in run("status", *APP, database=shop, COLUMNS="200").stdout
    (figures,) = json.loads(run("status", *APP, "--json", database=shop).stdout)
    assert (figures["name"], figures["rows"], figures["documents"], figures["chunks"]) == ("article", 4, 4, 4)
    assert figures["encoder"] == declared.index.encoder.fingerprint


def test_an_address_for_another_driver_is_opened_with_ours(shop: URL) -> None:
    for driver in ("postgresql", "postgresql+asyncpg", "postgresql+psycopg2"):
        done = run("status", *APP, "--json", "--database", shop.set(drivername=driver).render_as_string())
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("below", ["", "below"])
def test_the_application_is_found_by_the_pyproject_above(user_folder: Path, shop: URL, below: str) -> None:
    done = run("status", "--json", database=shop, folder=user_folder / below)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["name"] == "article"


@pytest.mark.parametrize("query", ["[/b] [red]chair", "🪑 chair", "of the and", "'; drop table article; --", "-- -x"])
def test_any_text_is_a_query(shop: URL, query: str) -> None:
    done = run("search", *APP, "--", query, database=shop, COLUMNS="120")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Red chair" in done.stdout
    assert query in done.stdout


# What is asked for


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((" ",), "the query is empty: give at least one word"),
        (("x" * 100_000,), "the query has 100,000 characters, at most 10,000 are allowed: shorten it"),
        ((os.fsdecode(b"chair \xff"),), "the query holds half a surrogate pair at position 6"),
        (("chair", "--limit", "0"), "limit is 0: give 1 to 1,000"),
        (("chair", "--limit", "-1"), "limit is -1: give 1 to 1,000"),
        (("chair", "--limit", "1000000"), "limit is 1,000,000: give 1 to 1,000"),
        (("chair", "--index", "books"), 'no index "books": the application declares article'),
    ],
    ids=["blank", "long", "surrogate", "limit 0", "limit -1", "limit a million", "unknown index"],
)
def test_a_query_that_cannot_be_answered(shop: URL, arguments: tuple[str, ...], said: str) -> None:
    assert refusal("search", *arguments, *APP, database=shop).startswith(said)


def test_a_limit_that_is_no_number_is_a_mistake_in_the_command() -> None:
    said = refusal("search", "chair", "--limit", "ten", *APP, database="postgresql://127.0.0.1:1/shop")
    assert said.startswith("Invalid value for '--limit'")
    assert refusal("serch").startswith("No such command 'serch'.")


def test_a_setting_out_of_range(shop: URL) -> None:
    said = refusal("search", "chair", *APP, database=shop, HYBRIDSEARCH_RRF_K="0")
    assert said.startswith("HYBRIDSEARCH_RRF_K is '0': ")


# The application


def test_no_application(tmp_path: Path, shop: URL) -> None:
    assert "Give --app package.module" in refusal("index", database=shop, folder=tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, 'cannot import "broken": No module named'),
        ("x = 1", 'module "broken" holds no SearchIndex: name the module that declares one'),
        ("import no_such_package", 'cannot import "broken": No module named'),
        ("from hybridsearch import no_such_name", 'importing "broken" fails: ImportError: '),
        ("def broken(:", 'importing "broken" fails: SyntaxError: '),
        ("raise RuntimeError('first line\\nsecond line')", "importing"),
        ("from tests.support.models import articles\narticles(fields=['colour'])", "Article has no column attribute"),
    ],
    ids=["missing", "no index", "missing package", "missing name", "syntax", "raises", "wrong declaration"],
)
def test_an_application_that_declares_nothing(tmp_path: Path, source: str | None, said: str) -> None:
    if source is not None:
        (tmp_path / "broken.py").write_text(source)
    arguments = ("search", "chair", "--app", "broken")
    assert refusal(*arguments, database="postgresql://127.0.0.1:1/shop", folder=tmp_path).startswith(said)


def test_a_pyproject_that_is_no_toml(tmp_path: Path, shop: URL) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.hybridsearch\n")
    assert "pyproject.toml is not valid TOML" in refusal("status", database=shop, folder=tmp_path)


def test_a_collection_that_is_none(tmp_path: Path, shop: URL) -> None:
    said = refusal("eval", "--dataset", str(tmp_path), database=shop)
    assert said.endswith("is not a judged collection: it has no corpus.jsonl.gz")


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_an_encoder_that_fails(tmp_path: Path, tables: URL, engine: Engine, breakage: str) -> None:
    (tmp_path / "broken.py").write_text(
        "from tests.support.encoders import BrokenEncoder\nfrom tests.support.models import articles\n"
        f"index = articles(encoder=BrokenEncoder({breakage!r})).index\n"
    )
    said = refusal("index", "--app", "broken", database=tables, folder=tmp_path)
    assert said.startswith('encoder "word-hash" ')
    with Session(engine) as session:
        for table, count in ((declared.index.chunks, 0), (declared.index.queue, 4)):
            assert session.scalar(select(func.count()).select_from(table)) == count


# The server


@pytest.mark.parametrize(
    "command", [("migrate",), ("index", *APP), ("search", "chair", *APP), ("status", *APP), ("demo",)]
)
def test_a_server_that_is_not_there(command: tuple[str, ...]) -> None:
    said = refusal(*command, database="postgresql://127.0.0.1:1/shop")
    assert said.startswith("the PostgreSQL server cannot be reached: ")
    assert "Check DATABASE_URL" in said


def test_a_wrong_password(guarded_server: URL) -> None:
    said = refusal("migrate", database=guarded_server.set(password="abracadabra"))
    assert "password authentication failed" in said
    assert "abracadabra" not in said


def test_a_database_that_is_not_there(server: URL) -> None:
    said = refusal("migrate", database=server.set(database="no_such_database"))
    assert 'database "no_such_database" does not exist' in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (None, "which database? Set DATABASE_URL"),
        ("", "which database? Set DATABASE_URL"),
        ("garbage", "the database address is not a URL: postgresql://user:password@host:5432/name"),
        ("postgresql://host:port/shop", "the database address is not a URL"),
        ("mysql://host/shop", "the database address is for mysql"),
        ("postgresql://127.0.0.1:1/shop?no_such_option=1", "the PostgreSQL server cannot be reached: invalid conn"),
    ],
)
def test_an_address_that_is_none(address: str | None, said: str) -> None:
    assert refusal("migrate", database=address).startswith(said)


@pytest.mark.parametrize("command", [("index",), ("search", "chair"), ("status",)])
def test_a_database_that_was_never_migrated(bare_database: URL, command: tuple[str, ...]) -> None:
    said = refusal(*command, *APP, database=bare_database)
    assert "run `hybridsearch migrate`" in said or "run your own migration" in said


@pytest.mark.parametrize("command", [("index",), ("search", "chair"), ("status",)])
def test_tables_that_were_never_created(database: URL, command: tuple[str, ...]) -> None:
    assert "run your own migration, `alembic upgrade head`" in refusal(*command, *APP, database=database)


def test_what_the_server_refuses_is_one_line_too(shop: URL, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("alter table article_chunk add constraint none check (false) not valid"))
        connection.execute(text("update article set title = 'Purple chair' where id = 1"))
    said = refusal("index", *APP, database=shop)
    assert said.startswith('the server says: new row for relation "article_chunk" violates check constraint "none"')


# The shell around it


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_has_left_is_no_failure_to_talk_about(shop: URL, form: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        command = [*PROGRAM, "search", "chair", *APP, *form]
        done = subprocess.run(
            command, env=environment(shop), cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a POSIX shell")
def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path, tables: URL, engine: Engine) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom pathlib import Path\n"
        "from tests.support.encoders import WordHashEncoder\nfrom tests.support.models import articles\n"
        "class Slow(WordHashEncoder):\n"
        "    def encode_documents(self, texts):\n"
        "        Path('begun').touch()\n"
        "        time.sleep(60)\n"
        "index = articles(encoder=Slow()).index\n"
    )
    command = [*PROGRAM, "index", "--app", "slow"]
    with subprocess.Popen(
        command,
        env=environment(tables),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background of a shell has them inherit that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode in {1, 130}
    assert "Traceback" not in errors
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(declared.index.chunks)) == 0
