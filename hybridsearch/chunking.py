"""Cut a text into passages that an encoder reads whole.

    split("A long text …", encoder.token_spans, max_tokens=256, overlap=32, prefix="Its title")

A passage ends, in this order of preference, before a Markdown heading, between paragraphs, between sentences or
lines, between words, between tokens; never inside a character that is written with several code points. The text
is tokenised once, so 1 MB takes about as long as its tokenizer does.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hybridsearch.characters import is_ideographic, splits_character

TokenSpans = Callable[[str], Sequence[tuple[int, int]]]

# A fence is consumed whole, so that a comment in a code block is no heading. ATX headings only (CommonMark 4.2):
# a line of hyphens is as often a table or a rule as it is the underline of a heading.
_HEADING = re.compile(r"^(`{3,}|~{3,})(?s:.*?)(?:^\1[^\n]*$|\Z)|^(?P<heading> {0,3}#{1,6}[ \t]+\S[^\n]*)", re.M)
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n\s*")
# Ends in most scripts need white space and no lower-case letter after them ("e.g. this", "3.5"); Chinese and
# Japanese ones need nothing. A line end counts too: lists and verse have no full stops.
_VISIBLE = re.compile(r"\S")
_SENTENCE = re.compile(r"[.!?…؟।][\"'”’»)\]]*\s+(?=[^\sa-z])|[。！？｡．]+[\"'”’」』）】]*\s*|\n\s*")


@dataclass(frozen=True)
class Passage:
    """`text` is what to encode: the prefix, the section's heading where the cut parted them, `source[start:end]`.

    `ordinal` counts from 0. `start` and `end` are character offsets; `source[start:end]` neither begins nor ends
    with white space. Passages are in the order of the source and overlap by choice only.
    """

    ordinal: int
    start: int
    end: int
    text: str


def split(text: str, token_spans: TokenSpans, *, max_tokens: int, overlap: int = 0, prefix: str = "") -> list[Passage]:
    """Cut `text` into passages of at most `max_tokens` tokens each, with all that they carry.

    Each shares up to `overlap` tokens with the one before it, unless a section parts them. The prefix is cut to half
    of `max_tokens`; a heading of more than a quarter of the rest is not carried on, and the overlap is at most that
    quarter. Every character but white space is in a passage. A text without any gives one passage with the prefix
    alone, at 0, so that a document is found by its title; without a prefix too it gives none. A single character of
    more tokens than fit (a letter under many accents) is left whole, and its passage is then longer.

    Raises ValueError unless `max_tokens` is at least 1 and `overlap` from 0 to a quarter of it.
    """
    if max_tokens < 1 or not 0 <= overlap <= max_tokens // 4:
        raise ValueError(f"overlap must be from 0 to a quarter of max_tokens: got {overlap} of {max_tokens}")
    lead, spent = _fit(prefix.strip(), token_spans, max_tokens // 2)
    source = _read(text, token_spans)
    passages: list[Passage] = []
    room = max_tokens - spent
    for start, end, heading in _cuts(source, room, min(overlap, room // 4)):
        body = "\n".join(part for part in (lead, heading, text[start:end]) if part)
        passages.append(Passage(len(passages), start, end, body))
    return passages or ([Passage(0, 0, 0, lead)] if lead else [])


def _fit(prefix: str, token_spans: TokenSpans, limit: int) -> tuple[str, int]:
    """Cut the prefix to `limit` tokens, the line end after it included; return it and its number of tokens."""
    spans = token_spans(prefix + "\n") if prefix else []
    if len(spans) <= limit:
        return prefix, len(spans)
    end = spans[max(limit - 1, 0)][0]
    while end and splits_character(prefix, end):
        end -= 1
    return prefix[:end].rstrip(), limit


@dataclass(frozen=True)
class _Source:
    """A text, where its tokens start, and where it can be cut: all ascending character offsets."""

    text: str
    tokens: Sequence[int]
    headings: Sequence[tuple[int, int]]
    sections: Sequence[int]
    paragraphs: Sequence[int]
    sentences: Sequence[int]

    def token(self, position: int) -> int:
        """Return the index of the first token that starts at `position` or after it."""
        return bisect_left(self.tokens, position)

    def is_cuttable(self, position: int, since: int) -> bool:
        return not splits_character(self.text, position, since)

    def between_words(self, position: int) -> bool:
        before, after = self.text[position - 1], self.text[position]
        return before.isspace() or after.isspace() or is_ideographic(before) or is_ideographic(after)


def _read(text: str, token_spans: TokenSpans) -> _Source:
    headings = [m.span("heading") for m in _HEADING.finditer(text) if m["heading"]]
    # Nothing may be cut between a heading and what it is the heading of.
    closed = [(start, _skip_space(text, end)) for start, end in headings]
    opens = [start for start, _ in closed]

    def allowed(position: int) -> bool:
        nearest = bisect_left(opens, position) - 1
        return nearest < 0 or position > closed[nearest][1]

    return _Source(
        text=text,
        tokens=[start for start, _ in token_spans(text)],
        headings=headings,
        sections=[start for start in opens if allowed(start)],
        paragraphs=[m.end() for m in _PARAGRAPH.finditer(text) if allowed(m.end())],
        sentences=[m.end() for m in _SENTENCE.finditer(text) if allowed(m.end())],
    )


def _cuts(source: _Source, budget: int, overlap: int) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and the heading to carry, passage after passage."""
    start, done = _skip_space(source.text, 0), 0
    while start < len(source.text):
        heading, spent = _heading_above(source, start, budget // 4)
        spent += _cost_of_parting(source, start)
        cut = _end(source, start, max(budget - spent, 1), done)
        yield start, _trim_space(source.text, start, cut), heading
        # The next one goes beyond the next visible character, so that it is never a part of this one.
        done = _skip_space(source.text, cut)
        start = _resume(source, start, cut, overlap) if done < len(source.text) else done


def _heading_above(source: _Source, start: int, limit: int) -> tuple[str, int]:
    """Return the last heading before `start` and its number of tokens, or "" and 0 if there is none that fits."""
    nearest = bisect_left(source.headings, (start + 1, 0)) - 1
    if nearest < 0:
        return "", 0
    first, last = source.headings[nearest]
    tokens = source.token(last) - source.token(first) + 1  # 1 for the line end
    return (source.text[first:last].strip(), tokens) if last <= start and tokens <= limit else ("", 0)


def _cost_of_parting(source: _Source, start: int) -> int:
    """Return how many tokens more the text from `start` may have by itself than within the source."""
    if start == 0 or source.text[start - 1].isspace():
        return 0
    first = source.token(start)
    inside_token = first == len(source.tokens) or source.tokens[first] != start
    return 2 if inside_token else 1  # a mark of a new word; what is left of the token


def _end(source: _Source, start: int, budget: int, done: int) -> int:
    """Return the best place, beyond `done`, to end a passage of up to `budget` tokens from `start`."""
    first = source.token(start)
    if first + budget >= len(source.tokens):
        return len(source.text)
    limit, half, quarter = (source.tokens[first + n] for n in (budget, budget // 2, budget // 4))
    choices = ((source.sections, quarter), (source.paragraphs, half), (source.sentences, quarter))
    for places, floor in choices:
        for i in range(bisect_right(places, limit) - 1, bisect_right(places, max(floor, start, done)) - 1, -1):
            if source.is_cuttable(places[i], start):
                return places[i]
    return _end_in_sentence(source, start, limit, max(start, done))


def _end_in_sentence(source: _Source, start: int, limit: int, done: int) -> int:
    window = source.tokens[bisect_right(source.tokens, done) : bisect_right(source.tokens, limit)]
    place = _first_place(source, window[::-1], start)
    if place is not None:
        return place
    # One character fills the budget: the passage ends after it.
    end = max(limit, done + 1)
    while end < len(source.text) and not source.is_cuttable(end, start):
        end += 1
    return end


def _first_place(source: _Source, places: Sequence[int], since: int) -> int | None:
    """Return the first place between words, else the first between characters, else None."""
    by_word = (place for place in places if source.between_words(place) and source.is_cuttable(place, since))
    by_character = (place for place in places if source.is_cuttable(place, since))
    return next(by_word, next(by_character, None))


def _resume(source: _Source, start: int, end: int, overlap: int) -> int:
    """Return where the next passage begins: up to `overlap` tokens before `end`, at a sentence or word if it can."""
    following = _skip_space(source.text, end)
    nearest = bisect_left(source.sections, end)
    at_section = nearest < len(source.sections) and source.sections[nearest] == end
    if not overlap or at_section:
        return following
    # Counted from the next visible character: for some tokenizers white space is tokens too.
    floor = max(source.tokens[max(source.token(following) - overlap, 0)], start + 1)
    for sentence in source.sentences[bisect_left(source.sentences, floor) : bisect_left(source.sentences, end)]:
        if source.is_cuttable(sentence, start):
            return _skip_space(source.text, sentence)
    place = _first_place(source, source.tokens[source.token(floor) : source.token(end)], start)
    return following if place is None else _skip_space(source.text, place)


def _skip_space(text: str, position: int) -> int:
    visible = _VISIBLE.search(text, position)
    return visible.start() if visible else len(text)


def _trim_space(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
