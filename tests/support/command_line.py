"""Run the command line as a user does, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import URL

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-W", "error", "-m", "hybridsearch.cli")


def environment(database: URL | str | None = None) -> dict[str, str]:
    """Return the environment of a shell with DATABASE_URL, and of no other setting of ours."""
    ours = ("HYBRIDSEARCH_", "DATABASE_URL", "COLUMNS", "FORCE_COLOR", "PYTHONUNBUFFERED")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    given = database.render_as_string(hide_password=False) if isinstance(database, URL) else database
    return inherited | {"PYTHONPATH": str(ROOT)} | ({} if given is None else {"DATABASE_URL": given})


def run(
    *arguments: str, database: URL | str | None = None, folder: Path = ROOT, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `hybridsearch` with the arguments, in a folder; `settings` are variables of its environment."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(database) | settings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(*arguments: str, **options: object) -> str:
    """Run it; return the one line of its error, without `error: `. Exit status 1, nothing on standard output."""
    done = run(*arguments, **options)  # type: ignore[arg-type]
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")
