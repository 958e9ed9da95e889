"""The README's words, typed as they stand: every fenced block of code is run, in order, in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
BLOCKS = [match.groups() for match in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))]
BIN = Path(sys.executable).parent


def commands(kind: str, name: str) -> list[str]:
    """The commands of the README's shell blocks that start with a word, without their comments."""
    lines = [line.split(" #")[0].strip() for language, text in BLOCKS if language == kind for line in text.splitlines()]
    return [line for line in lines if line.split(" ")[0] == name]


def run(command: str, folder: Path, **environment: str) -> str:
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    done = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_is_of_a_kind_that_is_run_here() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python"}
    first = {line.split()[0] for language, text in BLOCKS if language == "bash" for line in text.splitlines() if line}
    assert first == {"make", "pip", "python", "hybridsearch"}


def test_the_program_and_the_commands_after_it(bare_database: URL, tmp_path: Path) -> None:
    (program,) = [text for language, text in BLOCKS if language == "python"]
    assert len([line for line in program.splitlines() if line.strip() and not line.startswith("#")]) <= 30
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    database = bare_database.render_as_string(hide_password=False)
    printed = run("python app.py", tmp_path, DATABASE_URL=database)
    assert "Reset your password" in printed.splitlines()[0]
    for command in commands("bash", "hybridsearch"):
        # SQLAlchemy's spelling of the address is understood, and so is everybody else's.
        shown = run(command, tmp_path, DATABASE_URL=database.replace("postgresql+psycopg", "postgresql"), COLUMNS="200")
        assert "Reset your password" in shown or "article" in shown


def test_what_it_says_to_install_exists() -> None:
    (install,) = commands("bash", "pip")
    extras = re.search(r"'\.\[(.*)\]'", install)
    assert extras is not None
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", declared, re.M) for extra in extras[1].split(","))


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_targets_of_the_makefile(target: str) -> None:
    assert f"make {target}" in commands("bash", "make")
    assert run(f"make -n {target} VENV=.venv-none", ROOT)


def test_the_demo_tells_its_story_twice(bare_database: URL, tmp_path: Path) -> None:
    """On a server that is given, in a database of its own there, which a second run finds filled."""
    server = bare_database.render_as_string(hide_password=False)
    first = run("hybridsearch demo", tmp_path, DATABASE_URL=server, COLUMNS="160")
    assert "2,000 products read, 2,000 encoded and indexed" in first
    assert "Brother TN-2110 toner cartridge" in first
    assert first.count("encoding ") == 5
    assert first.count("--database") == 3
    second = run("hybridsearch demo", tmp_path, DATABASE_URL=server, COLUMNS="160")
    assert "2,000 products read, 0 encoded and indexed" in second
