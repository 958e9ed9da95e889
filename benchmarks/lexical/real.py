"""Real text to search: the English collections of a data folder in chunks of 60 words, with their questions.

    from real import chunks, questions
    for number, text in chunks(folder): ...
    for question in questions(folder): ...

A collection is a folder with `corpus*.jsonl.gz` (id, title, text) and, where there are questions, `queries*.jsonl`
(id, text).
"""

import gzip
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path

COLLECTIONS = ("cisi", "cranfield", "icecat-chorus", "load-wordnet-glosses", "npl", "scifact")
WORDS = 60


def chunks(folder: Path, *, words: int = WORDS) -> Iterator[tuple[int, str]]:
    """Yield (number from 0, at most `words` words)."""
    numbers = count()
    for collection in COLLECTIONS:
        for corpus in sorted((folder / collection).glob("corpus*.jsonl.gz")):
            with gzip.open(corpus, "rt", encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    tokens = f"{row.get('title') or ''} {row.get('text') or ''}".split()
                    for start in range(0, len(tokens), words):
                        yield next(numbers), " ".join(tokens[start : start + words])


def questions(folder: Path) -> Iterator[str]:
    """Yield the text of every question, collection by collection."""
    for collection in COLLECTIONS:
        for path in sorted((folder / collection).glob("queries*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)["text"]


def by_terms(every: list[str], *, count: int = 25) -> dict[int, list[str]]:
    """Return the first words of some questions, 1 to 8 of them, those of four letters or more."""
    asked: dict[int, list[str]] = {}
    for n in range(1, 9):
        cut = ([word for word in question.split() if len(word) > 3][:n] for question in every[n :: len(every) // 60])
        asked[n] = [" ".join(words) for words in cut if len(words) == n][:count]
    return asked
