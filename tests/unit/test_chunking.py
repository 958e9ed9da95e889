"""Passages: what is in them, where they end, how long they take."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridsearch.chunking import Passage, split
from hybridsearch.encoders.minilm import MiniLMEncoder


def words(text: str) -> list[tuple[int, int]]:
    """A tokenizer for tests: a run of word characters, or any other visible one."""
    return [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)]


def characters(text: str) -> list[tuple[int, int]]:
    return [(i, i + 1) for i in range(len(text))]


def octets(text: str) -> list[tuple[int, int]]:
    """As byte-level tokenizers do: several tokens with the span of one character."""
    return [(i, i + 1) for i, c in enumerate(text) for _ in c.encode("utf-8", "surrogatepass")]


def bodies(text: str, passages: list[Passage]) -> list[str]:
    return [text[p.start : p.end] for p in passages]


# ---- the small cases


def test_a_short_text_is_one_passage():
    assert split("  One sentence. \n", words, max_tokens=10) == [Passage(0, 2, 15, "One sentence.")]


@pytest.mark.parametrize("text", ["", " \n\t\u3000 "])
def test_a_text_without_words_is_its_title_alone(text):
    assert split(text, words, max_tokens=10, prefix="The title") == [Passage(0, 0, 0, "The title")]
    assert split(text, words, max_tokens=10) == []


@pytest.mark.parametrize(("max_tokens", "overlap"), [(0, 0), (10, -1), (10, 3), (-5, 0)])
def test_sizes_that_cannot_work_are_refused(max_tokens, overlap):
    with pytest.raises(ValueError, match="quarter of max_tokens"):
        split("text", words, max_tokens=max_tokens, overlap=overlap)


# ---- where passages end


def test_a_passage_ends_between_paragraphs_before_it_ends_between_sentences():
    text = "One two three four. Five six.\n\nSeven eight. Nine ten eleven twelve."
    assert bodies(text, split(text, words, max_tokens=12)) == [
        "One two three four. Five six.",
        "Seven eight. Nine ten eleven twelve.",
    ]


def test_a_passage_ends_between_sentences_before_it_ends_between_words():
    text = "One two three four five. Six seven eight nine ten."
    assert bodies(text, split(text, words, max_tokens=8)) == ["One two three four five.", "Six seven eight nine ten."]


@pytest.mark.parametrize(
    "text", ["向量数据库很好。全文检索也很好。", "本当に？！」と言った。そうです。", "真的吗！」他说道那里。是的是的。"]
)
def test_chinese_and_japanese_sentence_ends_need_no_space(text):
    first = bodies(text, split(text, characters, max_tokens=len(text) - 1))[0]
    assert re.search("[。！？]」?$", first)


def test_an_abbreviation_or_a_number_ends_no_sentence():
    text = "It costs 3.5 euros, e.g. in one shop of the town. It is cheap."
    assert bodies(text, split(text, words, max_tokens=18))[0] == "It costs 3.5 euros, e.g. in one shop of the town."


def test_a_long_sentence_ends_between_words():
    text = "alpha beta gamma delta epsilon " * 4
    for body in bodies(text, split(text, characters, max_tokens=20)):
        assert set(body.split()) <= {"alpha", "beta", "gamma", "delta", "epsilon"}


def test_a_long_word_is_cut_between_tokens():
    text = "x" * 45
    assert [len(body) for body in bodies(text, split(text, characters, max_tokens=20))] == [20, 19, 6]


# ---- headings


MARKDOWN = """# Install
Take the package. Then take the extra.

# Use
Call the function. It gives a list. Read the list from its start. Every hit has a score."""


def test_a_heading_is_never_the_end_of_a_passage():
    for max_tokens in range(4, 40):
        for body in bodies(MARKDOWN, split(MARKDOWN, words, max_tokens=max_tokens)):
            assert not re.search(r"(^|\n)# \w+$", body), (max_tokens, body)


def test_a_section_begins_a_passage():
    assert [b.split("\n")[0] for b in bodies(MARKDOWN, split(MARKDOWN, words, max_tokens=24))] == ["# Install", "# Use"]


def test_a_heading_is_carried_into_the_rest_of_its_section():
    passages = split(MARKDOWN, words, max_tokens=16, prefix="Manual")
    assert passages[-1].text.startswith("Manual\n# Use\n")
    assert "# Use" not in MARKDOWN[passages[-1].start : passages[-1].end]


def test_a_comment_in_a_code_block_is_no_heading():
    text = "# Use\n```\n# a comment\ncode code code code code code\n```\nThe end of it is here."
    assert all("# a comment\nThe" not in p.text for p in split(text, words, max_tokens=16))
    assert split(text, words, max_tokens=16)[-1].text.startswith("# Use\n")


# ---- the prefix and the overlap


def test_the_title_is_carried_into_each_passage():
    text = "word " * 50
    passages = split(text, words, max_tokens=12, prefix="A fine title")
    assert len(passages) > 4
    assert all(p.text.startswith("A fine title\nword") and len(words(p.text)) <= 12 for p in passages)


def test_a_long_title_leaves_half_of_the_tokens_to_the_text():
    passages = split("word " * 20, words, max_tokens=10, prefix="title " * 30)
    assert passages[0].text.count("title") == 4
    assert passages[0].text.count("word") == 5


def test_passages_share_whole_sentences_when_they_overlap():
    text = "One two three. Four five six. Seven eight. Nine ten eleven twelve. Thirteen."
    assert bodies(text, split(text, words, max_tokens=12, overlap=3)) == [
        "One two three. Four five six. Seven eight.",
        "Seven eight. Nine ten eleven twelve. Thirteen.",
    ]


def test_passages_share_words_where_a_sentence_is_too_long_to_share():
    text = "one two three four five six seven eight nine ten eleven twelve"
    assert bodies(text, split(text, words, max_tokens=8, overlap=2)) == [
        "one two three four five six seven eight",
        "seven eight nine ten eleven twelve",
    ]


def test_nothing_is_shared_between_sections():
    passages = split(MARKDOWN, words, max_tokens=25, overlap=6)
    assert [p.text.split("\n")[0] for p in passages] == ["# Install", "# Use"]


# ---- for every text


PIECES = st.sampled_from([
    "word", " ", ". ", "\n", "\n\n", "# Head\n", "```\n", "中文", "。", "é", "e\u0301", "\u0301", "👩‍👩‍👧", "🇩🇪",
    "👍🏽", "\ud83d", "\ude00", "\0", "\r\n", "각", "ﾊﾟ", "Hello there. You", "x" * 30, "\u200d",
])  # fmt: skip
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=60).map("".join)
TOKENIZERS = st.sampled_from([words, characters, octets])


@given(TEXTS, TOKENIZERS, st.integers(1, 40), st.integers(0, 10), st.sampled_from(["", "Title", "A long title of it"]))
def test_every_text_is_covered_in_order_at_its_offsets(text, tokens, max_tokens, overlap, prefix):
    passages = split(text, tokens, max_tokens=max_tokens, overlap=min(overlap, max_tokens // 4), prefix=prefix)
    assert [p.ordinal for p in passages] == list(range(len(passages)))
    covered = 0
    for p in passages:
        assert p.text.endswith(text[p.start : p.end])
        assert text[covered : p.start].strip() == ""
        assert p.end > covered or not text.strip()
        covered = p.end
    assert text[covered:].strip() == ""


@given(TEXTS, TOKENIZERS, st.integers(1, 40), st.integers(0, 10))
def test_no_cut_parts_a_character(text, tokens, max_tokens, overlap):
    for p in split(text, tokens, max_tokens=max_tokens, overlap=min(overlap, max_tokens // 4)):
        for cut in {p.start, p.end} - {0, len(text)}:
            before, after = text[cut - 1], text[cut]
            if before.isspace() or after.isspace():
                continue
            assert not unicodedata.combining(after)
            assert before != "\u200d"
            assert not ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
            flags = re.search("[\U0001f1e6-\U0001f1ff]*$", text[:cut])
            assert not ("\U0001f1e6" <= after <= "\U0001f1ff" and len(flags.group()) % 2)


@given(st.text(alphabet="ab .\n。中#", max_size=300), st.integers(8, 40), st.sampled_from(["", "Title"]))
def test_a_passage_has_no_more_tokens_than_asked_for(text, max_tokens, prefix):
    for tokens in (words, characters):
        for p in split(text, tokens, max_tokens=max_tokens, overlap=max_tokens // 5, prefix=prefix):
            assert len(tokens(p.text)) <= max_tokens


@pytest.mark.parametrize("max_tokens", [10, 33, 64, 254])
def test_passages_fit_the_encoder_that_they_were_cut_for(max_tokens):
    encoder = MiniLMEncoder()
    text = (
        MARKDOWN * 3
        + "向量数据库很好。全文检索也很好，真的！" * 20
        + "Unbelievably heterogeneous Donaudampfschiff. " * 20
    )
    for p in split(text, encoder.token_spans, max_tokens=max_tokens, overlap=max_tokens // 5, prefix="A manual: 手册"):
        assert len(encoder.token_spans(p.text)) <= max_tokens


def test_a_text_is_tokenised_once():
    seen = []
    split("word. " * 500, lambda text: seen.append(text) or words(text), max_tokens=20, overlap=5)
    assert len(seen) == 1


# ---- one megabyte


ENGLISH = (
    "The quick brown fox jumps over the lazy dog, and vectors are stored in tables. A second sentence follows.\n\n"
)
FLAGS = "🇩🇪" * 500_000
MEGABYTES = {
    "prose": ENGLISH * (1_000_000 // len(ENGLISH)),
    "one line": "word " * 200_000,
    "one word": "x" * 1_000_000,
    "chinese": "向量数据库与全文检索，" * 30_000,
    "line ends": "\n" * 1_000_000,
    "spaces": "a" + " " * 999_998 + "b",
    "accents": "a" + "\u0301" * 500_000,
    "flags": FLAGS[:250_000],
    "fences": "```\n" * 250_000,
    "hashes": "# a\n" * 250_000,
    "full stops": "." * 1_000_000,
    "stops": ". " * 500_000,
}


@pytest.mark.parametrize("name", MEGABYTES)
def test_a_megabyte_of_anything_is_cut_to_size(name):
    text = MEGABYTES[name]
    spans = characters(text)
    passages = split(text, lambda _: spans, max_tokens=512, overlap=64)
    assert all(p.end - p.start <= 512 for p in passages) or name == "accents"


def test_a_megabyte_of_prose_is_cut_with_the_tokenizer_of_minilm():
    encoder = MiniLMEncoder()
    passages = split(MEGABYTES["prose"], encoder.token_spans, max_tokens=254, overlap=32)
    assert len(passages) > 700
