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
