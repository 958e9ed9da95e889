"""Chinese cut into words in this process: by jieba, or by a function of your own.

    take(jieba_words, "红色的椅子 oak")      # ("  oak", ["红色", "的", "椅子"])

For an engine that analyses texts here. What a trigger or a SQL prompt analyses has no Python: docs/text-analysis.md.
"""

import logging
import re
from collections.abc import Callable, Iterable

from hybridsearch.encoders.optional import require
from hybridsearch.errors import DeclarationError

Segmenter = Callable[[str], Iterable[str]]
_HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def jieba_words(run: str) -> Iterable[str]:
    """Cut a run of Chinese into words, by jieba's cut for search engines: a long word, and the words in it.

    Raises MissingDependency without the extra `jieba`.
    """
    jieba = require("jieba", extra="jieba")
    jieba.setLogLevel(logging.WARNING)
    words: Iterable[str] = jieba.cut_for_search(run)
    return words


def take(segmenter: Segmenter, text: str) -> tuple[str, list[str]]:
    """Take the runs of Chinese characters out of a text; return what is left, and the runs' words."""
    words = [word for run in _HAN.findall(text) for word in segmenter(run) if word.strip()]
    return _HAN.sub(" ", text), words


def checked_segmenter(index: str, engine: str, segmenter: Segmenter | None) -> Segmenter | None:
    """Return the segmenter; raise DeclarationError for an engine that analyses texts in the server."""
    if segmenter is not None and engine != "memory":
        raise DeclarationError(
            f'index "{index}": a segmenter is Python, which the server does not have: declare engine="memory", '
            f"leave Chinese to bigrams, or name a configuration whose parser cuts it (docs/text-analysis.md)"
        )
    return segmenter
