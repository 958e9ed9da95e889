"""Build the wheel, install it into an empty environment, and use it from an empty folder.

python tests/smoke.py
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "onnxruntime", "alembic", "transformers", "starlette", "typer", "tokenizers", "pgserver")


def run(*command: str | Path, cwd: Path) -> str:
    print("+", *command, flush=True)
    done = subprocess.run([str(part) for part in command], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hybridsearch-smoke-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT, cwd=folder)
        (wheel,) = (folder / "dist").glob("*.whl")
        venv.create(folder / "venv", with_pip=True)
        binaries = folder / "venv" / "bin"
        run(binaries / "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[demo]", cwd=folder)
        work = folder / "work"
        work.mkdir()
        loaded = "import hybridsearch, sys; print(*sorted(set(sys.modules) & set(sys.argv[1:])))"
        heavy = run(binaries / "python", "-c", loaded, *HEAVY, cwd=work).split()
        assert not heavy, f"import hybridsearch loads {heavy}"
        assert "migrate" in run(binaries / "hybridsearch", "--help", cwd=work)
        database = ("--database", "embedded:.demo")
        assert "0001_schema.sql" in run(binaries / "hybridsearch", "migrate", *database, cwd=work)
        assert "try next" in run(binaries / "hybridsearch", "demo", cwd=work)
    print("the wheel works")


if __name__ == "__main__":
    main()
