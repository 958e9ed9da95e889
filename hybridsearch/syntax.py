"""What people write into a search box: phrases, exclusions, prefixes. Pure: no I/O.

    parse('red "oak chair" -blue gard*')
    # Parsed(words='red oak chair gard', phrases=('oak chair',), excluded=(Excluded('blue', phrase=False),),
    #        prefixes=('gard',))

An operator stands where nobody writes it by accident, and is plain text anywhere else. A quotation mark opens a phrase
before a word and closes it after one (27" is an inch sign); a hyphen excludes right before a letter that begins a word
(DV7-1211ea is a part number, -5 a number); an asterisk makes a prefix at the end of one. A text of exclusions alone, or
with more than 16 operators, is taken as it stands. No text is an error.
"""

import re
import string
from dataclasses import dataclass, field

MAX_OPERATORS = 16
MAX_PHRASE = 200  # characters
MIN_PREFIX = 2  # letters, of a script with spaces

# Scripts that are written without spaces, as in hybridsearch.bigrams: there a word may begin and end anywhere.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf"
    "\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_SPACED = rf"[^\W_{UNSPACED}]"  # a letter or digit of a script with spaces
_STOPS = ".,;:!?()[]{}<>\"'“”„«»"
_OPERATOR = re.compile(
    rf"""
    (?<!{_SPACED}) (?P<minus>(?<!\S)-)?
    (?: "(?P<straight>[^"\n]{{1,{MAX_PHRASE}}})" | “(?P<curly>[^“”\n]{{1,{MAX_PHRASE}}})” ) (?!{_SPACED})
    | (?<!\S) - (?P<excluded>[^\W\d_]\S*)
    | (?<!{_SPACED}) (?P<prefix>[^\W_](?:[\w./+-]*[^\W_])?) \* (?=[\s.,;:!?)]|$)
    """,
    re.VERBOSE,
)
_SPECIAL = set(string.punctuation)  # to a regular expression, with a backslash, themselves
_unspaced = re.compile(f"[{UNSPACED}]")


@dataclass(frozen=True)
class Excluded:
    """What a document must not have: a word in any of its forms, or a `phrase` as it is written."""

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
    words = " ".join(_OPERATOR.sub(lambda match: _read(match, found), text).split())
    count = sum(map(len, found.values()))
    if not count or count > MAX_OPERATORS or not _has_word(words):
        return Parsed(text)
    excluded = [Excluded(word, False) for word in found["not word"]]
    excluded += [Excluded(phrase, True) for phrase in found["not phrase"]]
    return Parsed(words, tuple(found["phrase"]), tuple(excluded), tuple(found["prefix"]), text)


def _read(match: re.Match[str], found: dict[str, list[str]]) -> str:
    """Note an operator; return what it leaves among the words."""
    phrase = match["straight"] or match["curly"]
    if phrase is not None:
        if not _has_word(phrase):
            return match[0]
        found["not phrase" if match["minus"] else "phrase"].append(phrase.strip())
        return " " if match["minus"] else f" {phrase} "
    if match["excluded"] is not None:
        word = match["excluded"].rstrip(_STOPS + "*")
        found["not word"].append(word)
        return " "
    prefix = match["prefix"]
    if len(prefix) < MIN_PREFIX and not _unspaced.match(prefix):
        return match[0]
    found["prefix"].append(prefix)
    return prefix


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def pattern(phrase: str) -> str:
    """Return a POSIX regular expression of PostgreSQL for a phrase: its words in order, in any case.

    Between words stands anything but letters and digits, or in a script without spaces nothing.
    """
    tokens = [token for token in (part.strip(_STOPS) for part in phrase.split()) if token]
    pieces = [_border(tokens[0][0], "^")]
    for before, after in zip(["", *tokens], tokens, strict=False):
        if before:
            loose = _unspaced.match(before[-1]) or _unspaced.match(after[0])
            pieces.append("[^[:alnum:]]*" if loose else "[^[:alnum:]]+")
        pieces += ("\\" + character if character in _SPECIAL else character for character in after)
    return "".join([*pieces, _border(tokens[-1][-1], "$")])


def _border(character: str, end: str) -> str:
    """What stands beside a phrase that begins or ends with the character: the end of the text, or no letter."""
    return "" if _unspaced.match(character) or not character.isalnum() else f"({end}|[^[:alnum:]])"


def is_plain_word(text: str) -> bool:
    """Return whether a text is one word of letters, of a script with spaces."""
    return text.isalpha() and not _unspaced.search(text)


def surely_indexed(phrase: str) -> str:
    """Return the words of a phrase whose terms any text with the phrase has, in whatever context they stand there."""
    tokens = (part.strip(_STOPS) for part in phrase.split())
    return " ".join(run for token in tokens for run in _runs(token))


def _runs(token: str) -> list[str]:
    if token.isalpha():
        # A single character of a script without spaces is a term of a text only where it stands alone.
        return [
            run for run in re.split(rf"([{UNSPACED}]+)", token) if run and not (_unspaced.match(run) and len(run) < 2)
        ]
    runs = re.findall(r"[^\W_]+", token)
    return [run for run in runs if not run.isdigit() and not run.isalpha() and not _unspaced.search(run)]
