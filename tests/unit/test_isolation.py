"""The errors that may be of one row, as Python takes them and as the step that indexes words does."""

import re
from pathlib import Path

from psycopg import errors

import hybridsearch
from hybridsearch.isolation import UNSURE, VALUES


def test_the_step_that_indexes_words_catches_the_classes_that_python_looks_into() -> None:
    text = (Path(hybridsearch.__file__).parent / "sql" / "index" / "follow.sql").read_text()
    caught = re.search(r"\n +exception\n.*?when (.*?) then", text, re.DOTALL)
    assert caught
    classes = {
        getattr(errors, "InternalError_" if name == "internal_error" else name.title().replace("_", "")).sqlstate[:2]
        for name in re.split(r"\s+or\s+", caught[1])
    }
    assert classes == {*VALUES, *UNSURE}
