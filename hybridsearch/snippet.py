"""Cut the telling places out of a text, as HTML with the matches marked. Pure: no I/O.

    cut("A chair of <oak>.", spans_of("A chair of <oak>.", {"chair"}, set()), Highlight())
    # Snippet(html="A <mark>chair</mark> of &lt;oak&gt;.", fragments=("A <mark>chair</mark> of &lt;oak&gt;.",))

Every piece of the text is escaped first, then marked: no tag of the text's own reaches the page.
"""

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from operator import itemgetter

from hybridsearch.characters import splits_character
from hybridsearch.errors import QueryError
from hybridsearch.syntax import UNSPACED

MAX_COMPARED = 500  # matches of a text among which the telling places are looked for

# As hybridsearch.codes and the parsers of PostgreSQL take words: whole part numbers, and the words in them.
_TOKEN = re.compile(rf"(?P<unspaced>[{UNSPACED}]+)|[^\W_{UNSPACED}]+(?:[-._/'’][^\W_{UNSPACED}]+)*(?:\+\+?|\#)?")
_WORD = re.compile(r"[^\W_]+")
_unspaced = re.compile(f"[{UNSPACED}]")

Span = tuple[int, int]


@dataclass(frozen=True)
class Highlight:
    """How a snippet is made: at most `length` characters of text in at most so many `fragments`.

    `before` and `after` stand around a match, `separator` between fragments and where text is left out: HTML of yours,
    taken as it is.
    """

    length: int = 240
    fragments: int = 2
    before: str = "<mark>"
    after: str = "</mark>"
    separator: str = " … "

    def __post_init__(self) -> None:
        for name, least, most in (("length", 10, 10_000), ("fragments", 1, 20)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise QueryError(f"{name} of a snippet is {value!r}: give a whole number from {least} to {most:,}")
        for name in ("before", "after", "separator"):
            if not isinstance(value := getattr(self, name), str):
                raise QueryError(f"{name} of a snippet is {value!r}: give a string")
        if self.length // self.fragments < 10:
            raise QueryError(f"{self.fragments} fragments of {self.length} characters are too short: 10 each at least")


@dataclass(frozen=True)
class Snippet:
    """Pieces of a text as HTML: the `fragments`, and all of them as one `html`. Safe to put into a page."""

    html: str
    fragments: tuple[str, ...]

    def __str__(self) -> str:
        return self.html

    def __html__(self) -> str:
        """Return the HTML: templates that escape, such as Jinja's, take it as it is."""
        return self.html


def words_of(text: str) -> set[str]:
    """Return the words of a text that are to be analysed, lower-cased: of scripts with spaces, whole and in parts."""
    tokens = {match[0] for match in _TOKEN.finditer(text) if match["unspaced"] is None}
    return {token.lower() for token in tokens} | {part.lower() for token in tokens for part in _WORD.findall(token)}


def spans_of(text: str, matched: Collection[str], terms: Collection[str]) -> list[Span]:
    """Return where the matches are: `matched` among the words, and in scripts without spaces the bigrams in `terms`."""
    return list(_spans(text, matched, terms))


def _spans(text: str, matched: Collection[str], terms: Collection[str]) -> Iterator[Span]:
    known: dict[str, list[Span]] = {}  # a text has few words, and has them often
    for found in _TOKEN.finditer(text):
        token, start = found[0], found.start()
        if token not in known:
            bigrams = found["unspaced"] is not None
            known[token] = list(_bigrams(token, terms)) if bigrams else _words(token, matched, terms)
        for begin, end in known[token]:
            yield start + begin, start + end


def _words(token: str, matched: Collection[str], terms: Collection[str]) -> list[Span]:
    parts = [part.span() for part in _WORD.finditer(token) if part[0].lower() in matched]
    # A part number is one match; of well-known, the word that was asked for.
    if token.lower() in terms or (token.lower() in matched and not parts):
        return [(0, len(token))]
    return parts


def _bigrams(run: str, terms: Collection[str]) -> Iterator[Span]:
    if len(run) == 1:
        yield from [(0, 1)] * (run in terms)
        return
    begin = end = -1
    for place in range(len(run) - 1):
        if run[place : place + 2] not in terms:
            continue
        if place > end:
            if end > 0:
                yield begin, end
            begin = place
        end = place + 2
    if end > 0:
        yield begin, end


def cut(text: str, spans: Sequence[Span], highlight: Highlight) -> Snippet:
    """Return the snippet of a text, given where its matches are, in order and apart."""
    windows = _windows(text, spans, highlight)
    fragments = tuple(_marked(text, window, spans, highlight) for window in windows)
    html = highlight.separator.join(fragments)
    if windows and windows[0][0] > 0:
        html = highlight.separator.lstrip() + html
    if windows and windows[-1][1] < len(text.rstrip()):
        html += highlight.separator.rstrip()
    return Snippet(html, fragments)


def _marked(text: str, window: Span, spans: Sequence[Span], highlight: Highlight) -> str:
    place, stop = window
    pieces = []
    first = bisect_right(spans, place, key=itemgetter(1))
    for begin, end in spans[first : bisect_left(spans, stop, key=itemgetter(0))]:
        if _unspaced.match(text[begin]):  # of a run of bigrams a part may be shown, of a word none
            begin, end = max(begin, place), min(end, stop)
        if place <= begin < end <= stop:
            pieces += [escape(text[place:begin]), highlight.before, escape(text[begin:end]), highlight.after]
            place = end
    return "".join([*pieces, escape(text[place:stop])])


def _windows(text: str, spans: Sequence[Span], highlight: Highlight) -> list[Span]:
    """The parts of the text that are shown, in order and apart."""
    if len(text) <= highlight.length:
        return [(0, len(text))] if text else []
    size = highlight.length // highlight.fragments
    chosen: list[Span] = []
    left = list(spans[:MAX_COMPARED])
    seen: set[str] = set()
    while left and len(chosen) < highlight.fragments:
        stretch = _densest(text, left, size, seen)
        window = _around(text, stretch, size)
        if _is_apart(window, chosen):
            chosen.append(window)
        seen |= {text[begin:end].lower() for begin, end in left if window[0] <= begin < window[1]}
        left = [span for span in left if span[0] != stretch[0] and _is_apart(span, [window])]
    if not chosen:
        chosen = [_snapped(text, 0, highlight.length)]
    elif len(chosen) < highlight.fragments:
        chosen = [_around(text, chosen[0], highlight.length)] if len(chosen) == 1 else chosen
    return sorted(chosen)


def _is_apart(span: Span, others: Sequence[Span]) -> bool:
    return all(span[1] <= begin or end <= span[0] for begin, end in others)


def _densest(text: str, spans: Sequence[Span], size: int, seen: Collection[str]) -> Span:
    """The stretch of at most `size` characters with the most different matches, new ones first, then the most."""
    words = [text[begin:end].lower() for begin, end in spans]
    inside: Counter[str] = Counter()
    best, most, last, new = spans[0], (-1, 0, 0), 0, 0
    for first, (start, _) in enumerate(spans):
        while last <= first or (last < len(spans) and spans[last][1] - start <= size):
            new += words[last] not in seen and not inside[words[last]]
            inside[words[last]] += 1
            last += 1
        worth = new, len(inside), last - first
        if worth > most:
            best, most = (start, max(spans[last - 1][1], start + 1)), worth
        inside[words[first]] -= 1
        if not inside[words[first]]:
            del inside[words[first]]
            new -= words[first] not in seen
    return best


def _around(text: str, stretch: Span, size: int) -> Span:
    """A window of at most `size` characters around a stretch, from word to word."""
    spare = max(size - (stretch[1] - stretch[0]), 0)
    start = max(0, min(stretch[0] - spare // 2, len(text) - size))
    return _snapped(text, start, size, keep=stretch[0])


def _snapped(text: str, start: int, size: int, keep: int | None = None) -> Span:
    """The window without the words that it would cut, and without white space at its ends."""
    stop = min(start + size, len(text))
    begin = _first(range(start, (start if keep is None else keep) + 1), lambda place: _is_border(text, place), start)
    end = _first(range(stop, begin, -1), lambda place: _is_border(text, place), stop)
    while end > begin + 1 and splits_character(text, end):
        end -= 1
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    return begin, end


def _first(places: range, holds: Callable[[int], bool], otherwise: int) -> int:
    return next((place for place in places if holds(place)), otherwise)


def _is_border(text: str, place: int) -> bool:
    """Whether a reader would take a cut there for one between words."""
    if place <= 0 or place >= len(text) or text[place - 1].isspace() or text[place].isspace():
        return True
    unspaced = _unspaced.match(text[place - 1]) or _unspaced.match(text[place])
    return bool(unspaced) and not splits_character(text, place)
