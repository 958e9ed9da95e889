"""What of a query is an operator, and what is plain text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.syntax import Excluded, Parsed, parse


def word(text: str) -> Excluded:
    return Excluded(text, phrase=False)


def phrase(text: str) -> Excluded:
    return Excluded(text, phrase=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'red "oak chair" -blue gard*',
            Parsed("red oak chair gard", ("oak chair",), (word("blue"),), ("gard",)),
        ),
        ('-"oak chair" red', Parsed("red", excluded=(phrase("oak chair"),))),
        ("“oak chair” red", Parsed("oak chair red", ("oak chair",))),
        ('搜索"全文检索"数据库 -"向量"', Parsed("搜索 全文检索 数据库", ("全文检索",), (phrase("向量"),))),
        ('("red chair")', Parsed("( red chair )", ("red chair",))),
        ("数据* -东京", Parsed("数据", excluded=(phrase("东京"),), prefixes=("数据",))),
        ("DV7-12*, red", Parsed("DV7-12, red", prefixes=("DV7-12",))),
        ("chair -C++ -set.", Parsed("chair", excluded=(word("set"), phrase("C++")))),
        ('"C++"', Parsed("C++", ("C++",))),
        ('"oak"-"red"- -x', Parsed("oak - red -", ("oak", "red"), (word("x"),))),
        ("नमस्ते* red", Parsed("नमस्ते red", prefixes=("नमस्ते",))),
        ("red\u3000-blue\u00a0oak", Parsed("red oak", excluded=(word("blue"),))),
    ],
)
def test_operators(text: str, expected: Parsed) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "DV7-1211ea",
        "AN/PRC-77 well-known e-mail",
        '27" monitor, 24" wide',
        "5'10\" tall",
        "rock'n'roll don't O'Brien",
        "C++ c# .NET a* *",
        "2 * 3 * 4",
        "** bold **",
        "- item - item --flag -- -",
        "-40 degrees",
        "red -４０ -٤٠ -४०",
        '"" "!" " "',
        '"never closed',
        'closed"',
        '"a\nb"',
        '"' + "long " * 50 + '"',
        "-red -blue",
        "-red",
        '-"red chair"',
        "a " + " ".join(f"-x{n}" for n in range(17)),
        "plain words",
        "",
        "  spaces   stay  ",
    ],
)
def test_everything_else_is_plain_text(text: str) -> None:
    assert parse(text) == Parsed(text)


PIECES = st.sampled_from(
    ['"', "-", "*", " ", "red", "oak", "C++", "椅子", "'", "\\", "(", "“", "”", "\n", "5", "%", "\t"]
)


@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_has_words_and_no_operator_is_empty(text: str) -> None:
    parsed = parse(text)
    if any(character.isalnum() for character in text):
        assert any(character.isalnum() for character in parsed.words)
    for operator in (*parsed.phrases, *(excluded.text for excluded in parsed.excluded), *parsed.prefixes):
        assert operator.strip()


@given(st.characters(categories=["L", "Nd"]))
def test_every_letter_and_digit_is_of_a_word(character: str) -> None:
    assert parse(f'red "{character}"').phrases == (character,)


@given(st.sampled_from("!#$%&'()*,:;<=>?@[]^`{|}~ ¡¿«»“”…—–、。！？《》🪑☃€→\u200b\u00ad\ufeff"))
def test_no_mark_is_of_one(character: str) -> None:
    assert parse(f'red "{character}"') == Parsed(f'red "{character}"')
