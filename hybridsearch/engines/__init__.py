"""The lexical engines, behind one interface. docs/engines.md says which to choose, and how one adds another."""

from hybridsearch.engines.base import LexicalEngine
from hybridsearch.engines.memory import MemoryEngine
from hybridsearch.engines.sql import SqlEngine
from hybridsearch.engines.textsearch import TextsearchEngine
from hybridsearch.model import SearchIndex

_ENGINES: dict[str, LexicalEngine] = {
    engine.name: engine for engine in (SqlEngine(), MemoryEngine(), TextsearchEngine())
}


def engine_of(index: SearchIndex) -> LexicalEngine:
    """Return the engine that an index is declared with."""
    return _ENGINES[index.engine]


__all__ = ["LexicalEngine", "engine_of"]
