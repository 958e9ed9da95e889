"""Snippets are pieces of the text, escaped and marked."""

from html import unescape
from time import thread_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsearch import Highlight, QueryError
from hybridsearch.snippet import Snippet, cut, spans_of, words_of

PLAIN = Highlight(before="[", after="]")


def snippet(text: str, matched: set[str], terms: set[str] = frozenset(), highlight: Highlight = PLAIN) -> Snippet:  # type: ignore[assignment]
    return cut(text, spans_of(text, matched, terms), highlight)


@pytest.mark.parametrize(
    ("text", "matched", "terms", "expected"),
    [
        ("A chair of <oak> & ash.", {"chair"}, set(), "A [chair] of &lt;oak&gt; &amp; ash."),
        ("Chairs, CHAIR", {"chairs", "chair"}, set(), "[Chairs], [CHAIR]"),
        ("The DV7-1211ea here", {"dv7", "1211ea"}, {"dv7-1211ea"}, "The [DV7-1211ea] here"),
        ("a well-known word", {"known"}, set(), "a well-[known] word"),
        ("C++ and C", {"c"}, {"c++"}, "[C++] and [C]"),
        ("write to me@shop.de/x", {"shop.de/x"}, set(), "write to me@[shop.de/x]"),
        ("向量数据库", set(), {"数据", "据库"}, "向量[数据库]"),
        ("数据和数据", set(), {"数据"}, "[数据]和[数据]"),
        ("PostgreSQL全文検索 fast", {"postgresql"}, {"全文", "検索"}, "[PostgreSQL][全文検索] fast"),
        ("東 x", set(), {"東"}, "[東] x"),
        ("nothing", {"else"}, set(), "nothing"),
        ("", set(), set(), ""),
        ('"><script>alert(1)</script>', {"script", "alert"}, set(),
         "&quot;&gt;&lt;[script]&gt;[alert](1)&lt;/[script]&gt;"),
    ],
)  # fmt: skip
def test_what_matched_is_marked(text: str, matched: set[str], terms: set[str], expected: str) -> None:
    assert snippet(text, matched, terms).html == expected


def test_a_long_text_is_cut_around_its_matches_at_words() -> None:
    text = "start " * 40 + "the red chair stands " + "middle " * 60 + "by a blue table " + "end " * 40
    found = snippet(text, {"chair", "table"}, highlight=Highlight(length=80, fragments=2, before="[", after="]"))
    assert len(found.fragments) == 2
    assert "[chair]" in found.fragments[0]
    assert "[table]" in found.fragments[1]
    assert found.html == "… " + " … ".join(found.fragments) + " …"
    assert {word.strip("[]") for word in found.html.split()} <= {*text.split(), "…"}


def test_matches_near_each_other_are_shown_together() -> None:
    text = "red " + "x " * 200 + "red chair of oak " + "y " * 200 + "chair"
    found = snippet(text, {"red", "chair", "oak"}, highlight=Highlight(length=40, fragments=1, before="[", after="]"))
    assert "[red] [chair] of [oak]" in found.html


def test_one_match_gets_the_whole_length() -> None:
    text = "word " * 100 + "chair " + "word " * 100
    (fragment,) = snippet(text, {"chair"}, highlight=Highlight(length=100, fragments=2, before="", after="")).fragments
    assert 90 <= len(fragment) <= 100


def test_without_a_match_it_is_the_beginning() -> None:
    found = snippet("first words " + "and more " * 100, {"else"}, highlight=Highlight(length=30))
    assert found.html == "first words and more and more …"


def test_templates_take_it_as_html() -> None:
    found = snippet("<b>chair", {"chair"}, highlight=Highlight())
    assert str(found) == found.__html__() == "&lt;b&gt;<mark>chair</mark>"


PIECES = st.sampled_from(
    [
        "red",
        "chair",
        " ",
        " ",
        "<mark>",
        "</mark>",
        "&amp;",
        "&",
        "<script>",
        '"',
        "'",
        "数据库",
        "x" * 30,
        "e\u0301",
        "👩‍👩‍👧‍👦",
        "\n",
    ]
)
TEXTS = st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200)
STYLES = st.builds(
    Highlight,
    length=st.integers(40, 120),
    fragments=st.integers(1, 4),
    before=st.just("\ue000"),
    after=st.just("\ue001"),
)


@settings(max_examples=400)
@given(TEXTS.filter(lambda text: not {"\ue000", "\ue001"} & set(text)), STYLES)
def test_without_its_marks_it_is_a_piece_of_the_text(text: str, style: Highlight) -> None:
    found = snippet(text, {"red", "mark", "script"}, {"数据", "据库"}, style)
    assert len(found.fragments) <= style.fragments
    plain = [fragment.replace("\ue000", "").replace("\ue001", "") for fragment in found.fragments]
    assert sum(len(unescape(piece)) for piece in plain) <= style.length
    place = 0
    for piece in plain:
        assert not set(piece) & set("<>\"'")
        assert piece.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").count("&") == piece.count(
            "&quot;"
        ) + piece.count("&#x27;")
        place = text.index(unescape(piece), place) + len(unescape(piece))
    for fragment in found.fragments:
        for part in fragment.split("\ue000")[1:]:
            marked, mark, _ = part.partition("\ue001")
            assert mark
            assert marked.lower() in {"red", "mark", "script"} or set(marked) <= set("数据库")


@given(TEXTS)
def test_every_word_that_is_marked_was_given_to_be_analysed(text: str) -> None:
    words = words_of(text)
    for begin, end in spans_of(text, words, set()):
        assert text[begin:end].lower() in words


@pytest.mark.parametrize(
    "options",
    [{"length": 9}, {"length": 10_001}, {"length": True}, {"length": "10"}, {"fragments": 0}, {"fragments": 21},
     {"length": 50, "fragments": 6}],
)  # fmt: skip
def test_a_form_that_shows_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match=r"snippet|fragments"):
        Highlight(**options)


@pytest.mark.parametrize("highlight", [Highlight(length=10_000, fragments=1), Highlight(length=240, fragments=20)])
def test_a_text_of_nothing_but_matches_is_cut_in_milliseconds(highlight: Highlight) -> None:
    begun = thread_time()
    assert "<mark>a</mark>" in snippet("a " * 10_000, {"a"}, set(), highlight).html
    assert thread_time() - begun < 0.3  # seconds; comparing every stretch anew took 2 to 23
