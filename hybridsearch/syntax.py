"""What people write into a search box: phrases, exclusions, prefixes. Pure: no I/O.

    parse('red "oak chair" -blue gard*')
    # Parsed(words='red oak chair gard', phrases=('oak chair',), excluded=(Excluded('blue', phrase=False),),
    #        prefixes=('gard',))

An operator stands where nobody writes it by accident, and is plain text anywhere else. A quotation mark opens a phrase
before a word and closes it after one (27" is an inch sign); a hyphen excludes right before a letter that begins a word
(DV7-1211ea is a part number, -5 a number); an asterisk makes a prefix at the end of one. A text of exclusions alone, or
with more than 16 operators, is taken as it stands. No text is an error.

`hybridsearch.parsed` (sql/syntax.sql) reads the same, for those who have SQL alone. Both take a text apart by one
regular expression, TOKEN, which means the same to Python and to PostgreSQL, in every locale and version of Unicode: its
classes of characters are spelt out, and at each place its longest alternative is also the first that matches.
"""

import re
from dataclasses import dataclass, field

MAX_OPERATORS = 16
MAX_PHRASE = 200  # characters
MIN_PREFIX = 2  # letters, of a script with spaces

_SPACE = r"\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# What stands beside words: punctuation, symbols, emoji. Every other character is of a word: a letter, mark or digit.
_MARK = (
    r"\u0021-\u002a\u002c\u003a-\u0040\u005b-\u005e\u0060\u007b-\u007e\u00a1-\u00a9\u00ab-\u00b1\u00b4\u00b6-\u00b8"
    r"\u00bb\u00bf\u00d7\u00f7\u037e\u0387\u055a-\u055f\u0589\u058a\u05be\u05c0\u05c3\u05f3\u05f4\u0609-\u060d"
    r"\u061b-\u061f\u066a-\u066d\u06d4\u0964\u0965\u200b-\u2027\u202a-\u202e\u2030-\u205e\u2060-\u206f\u20a0-\u20cf"
    r"\u2190-\u245f\u2500-\u2bff\u2e00-\u2fff\u3001-\u3004\u3008-\u303f\ue000-\uf8ff\ufe00-\ufe1f\ufe30-\ufe6f"
    r"\ufeff-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0-\uffff\U0001f000-\U0001faff\U000e0000-\U0010ffff"
)
_JOIN = r"_./+-"  # marks that stand within a word: DV7-12, C++
_DIGIT = r"0-9\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19"
# Scripts that are written without spaces, as in hybridsearch.bigrams: there a word may begin and end anywhere.
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf"
    r"\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORD, _RUN, _INK = f"[^{_SPACE}{_MARK}{_JOIN}]", f"[^{_SPACE}{_MARK}]", f"[^{_SPACE}]"
_LETTER, _SPACED = f"[^{_SPACE}{_MARK}{_DIGIT}{_JOIN}]", f"[^{_SPACE}{_MARK}{UNSPACED}{_JOIN}]"

TOKEN = "|".join(
    [
        # 1 excluded? 2, 3 a phrase, before nothing of a word; 4 hyphens after it exclude nothing
        rf'(-?)(?:"([^"\n]+)"|“([^“”\n]+)”)(?!{_SPACED})(-*)',
        # 5 what is excluded: a hyphen that stands here has a space before it, since what is below takes the others
        rf"-({_LETTER}{_INK}*)",
        # 6 a prefix
        rf"({_WORD}(?:{_RUN}*{_WORD})?)\*(?=[{_SPACE}.,;:!?)]|$)",
        # 7 plain text: space; a word, with a quotation mark that only closes; a word; a mark
        rf'([{_SPACE}]+|(?:{_WORD}{_RUN}*|){_SPACED}["“]-*|{_WORD}{_RUN}*|{_INK}-*)',
    ]
)
PLAIN_WORD = f"^[^{_SPACE}{_MARK}{UNSPACED}{_DIGIT}{_JOIN}]+$"
# What the reader in SQL knows as hybridsearch.query_patterns().
PATTERNS = (TOKEN, _WORD, PLAIN_WORD, f"[{UNSPACED}]", f"[{_SPACE}]+")
_STOPS = ".,;:!?()[]{}<>\"'“”„«»*"

_token, _word, _plain_word, _unspaced, _spaces = map(re.compile, PATTERNS)


@dataclass(frozen=True)
class Excluded:
    """What a document must not have: a word in any of its forms, or a `phrase` as it is written.

    A part number, or a word of a script without spaces, is a phrase: its terms could stand anywhere.
    """

    text: str
    phrase: bool


@dataclass(frozen=True)
class Parsed:
    """A query's `words` without its operators, which are what is encoded and ranked by, and the operators.

    `source` is the text that they stood in.
    """

    words: str
    phrases: tuple[str, ...] = ()
    excluded: tuple[Excluded, ...] = ()
    prefixes: tuple[str, ...] = ()
    source: str | None = field(default=None, compare=False)


def parse(text: str) -> Parsed:
    """Return the words and the operators of a text."""
    found: dict[str, list[str]] = {"phrase": [], "not phrase": [], "not word": [], "prefix": []}
    words = _spaces.sub(" ", "".join(_read(token, found) for token in _token.finditer(text))).strip(" ")
    count = sum(map(len, found.values()))
    if not count or count > MAX_OPERATORS or not _word.search(words):
        return Parsed(text)
    excluded = [Excluded(text, kind == "not phrase") for kind in ("not word", "not phrase") for text in found[kind]]
    return Parsed(words, tuple(found["phrase"]), tuple(excluded), tuple(found["prefix"]), text)


def _read(token: re.Match[str], found: dict[str, list[str]]) -> str:
    """Note an operator; return what it leaves among the words."""
    minus, straight, curly, hyphens, excluded, prefix, _ = token.groups()
    phrase = straight or curly
    if phrase and len(phrase) <= MAX_PHRASE and _word.search(phrase):
        found["not phrase" if minus else "phrase"].append(phrase)
        return " " + hyphens if minus else f" {phrase} {hyphens}"
    if excluded:
        word = excluded.rstrip(_STOPS)
        found["not word" if is_plain_word(word) else "not phrase"].append(word)
        return " "
    if prefix and (len(prefix) >= MIN_PREFIX or _unspaced.match(prefix)):
        found["prefix"].append(prefix)
        return str(prefix)
    return token[0]


def is_plain_word(text: str) -> bool:
    """Return whether a text is one word of letters, of a script with spaces."""
    return _plain_word.search(text) is not None
