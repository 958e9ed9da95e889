"""Import a package of an optional extra, or say how to install it.

    onnxruntime = require("onnxruntime", extra="minilm")

For use inside functions: a module of ours that needs the package is imported without it.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from hybridsearch.errors import EncoderError, MissingDependency


def require(module: str, *, extra: str) -> Any:
    """Import `module`, which the extra `extra` installs.

    Raises MissingDependency when it, or a package that it needs, is absent, and EncoderError when it is there and
    does not load (two versions that do not go together, a library of the system that is missing).
    """
    try:
        return import_module(module)
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError):
            package = (error.name or module).partition(".")[0]
            if find_spec(package) is None:
                raise MissingDependency(package, extra) from error
        raise EncoderError(
            f"{module} is installed and does not load: {error}. Install the versions that go together: "
            f"pip install --upgrade 'hybridsearch[{extra}]'"
        ) from error
