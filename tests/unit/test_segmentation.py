"""Chinese cut into words in this process."""

import pytest

from hybridsearch import DeclarationError
from hybridsearch.segmentation import jieba_words, take
from tests.support.models import articles


def test_runs_of_chinese_become_words_and_the_rest_stays() -> None:
    rest, words = take(jieba_words, "红色的椅子 oak chairs、桌子 C++")
    assert rest.split() == ["oak", "chairs、", "C++"]
    assert {"红色", "椅子", "桌子"} <= set(words)
    assert take(jieba_words, "no Chinese") == ("no Chinese", [])


def test_a_segmenter_of_ones_own_gets_run_by_run() -> None:
    seen: list[str] = []
    assert take(lambda run: seen.append(run) or [run, " "], "甲乙 a 丙")[1] == ["甲乙", "丙"]  # type: ignore[func-returns-value]
    assert seen == ["甲乙", "丙"]


@pytest.mark.parametrize("engine", ["sql", "pg_textsearch"])
def test_the_server_has_no_python(engine: str) -> None:
    with pytest.raises(DeclarationError, match='"article": a segmenter is Python, which the server does not have'):
        articles(engine=engine, segmenter=jieba_words)
