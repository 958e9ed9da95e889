"""Find the user's indexes and database for the command line.

    find_indexes("shop.models")       # every SearchIndex that the module holds, by name

The module comes from --app, or from `app = "shop.models"` under [tool.hybridsearch] in the pyproject.toml of the
folder at hand or one above it.
"""

import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

from sqlalchemy import Engine, create_engine

from hybridsearch.connect import sqlalchemy_url, worker_engine
from hybridsearch.embedded import SCHEME, start
from hybridsearch.errors import ConfigurationError, HybridSearchError
from hybridsearch.model import SearchIndex
from hybridsearch.resources import EXAMPLES


def find_indexes(app: str | None, folder: Path | None = None) -> dict[str, SearchIndex]:
    """Return the indexes of the application by name. Raises ConfigurationError where there is none."""
    folder = folder or Path.cwd()
    name, root = (app, folder) if app else _configured(folder)
    sys.path[:] = [str(root), *(path for path in sys.path if path != str(root)), str(EXAMPLES)]
    module = _module(name)
    indexes = {value.name: value for value in vars(module).values() if isinstance(value, SearchIndex)}
    if not indexes:
        raise ConfigurationError(f'module "{name}" holds no SearchIndex: name the module that declares one')
    return indexes


def choose(indexes: dict[str, SearchIndex], name: str | None) -> SearchIndex:
    """Return the named index, or the only one.

    Raises ConfigurationError for an unknown name, or several without one.
    """
    known = ", ".join(sorted(indexes))
    if name is None:
        if len(indexes) > 1:
            raise ConfigurationError(f"there are several indexes: give --index with one of {known}")
        return next(iter(indexes.values()))
    if name not in indexes:
        raise ConfigurationError(f'no index "{name}": the application declares {known}')
    return indexes[name]


@contextmanager
def connected(address: str | None) -> Iterator[Engine]:
    """Yield an engine for the address, and close its connections at the end. Raises as `connect` does."""
    engine = connect(address)
    try:
        yield engine
    finally:
        engine.dispose()


def connect(address: str | None) -> Engine:
    """Return an engine for the address; `embedded:FOLDER` starts a server of its own there.

    Raises ConfigurationError without an address.
    """
    if address and address.startswith(SCHEME):
        return create_engine(start(Path(address.removeprefix(SCHEME)) / "postgres"))
    if not address:
        raise ConfigurationError(
            "which database? Set DATABASE_URL, or give --database postgresql://user:password@host:5432/name"
        )
    # The command line is synchronous: an address meant for another driver is opened with ours.
    return worker_engine(sqlalchemy_url(address).set(drivername="postgresql+psycopg"))


def _module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except HybridSearchError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f'cannot import "{name}": {error}. Give --app the dotted name of a module that can be imported from here'
        ) from error
    except Exception as error:  # whatever the user's module raises
        raise ConfigurationError(f'importing "{name}" fails: {type(error).__name__}: {error}') from error


def _configured(folder: Path) -> tuple[str, Path]:
    """Return the module that pyproject.toml names, and the folder of that file: it is imported from there."""
    for parent in (folder, *folder.parents):
        path = parent / "pyproject.toml"
        if path.is_file():
            try:
                section = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("hybridsearch", {})
            except tomllib.TOMLDecodeError as error:
                raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
            if app := section.get("app"):
                return str(app), parent
            break
    raise ConfigurationError(
        "which application? Give --app package.module, or put app = 'package.module' "
        "under [tool.hybridsearch] in pyproject.toml"
    )
