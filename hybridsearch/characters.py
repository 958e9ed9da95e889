"""What a reader takes for one character, where Unicode has several code points for it (UAX 29, the common cases)."""

import unicodedata

_ZERO_WIDTH_JOINER = "\u200d"


def splits_character(text: str, position: int, since: int = 0) -> bool:
    """Tell whether a cut before `text[position]` parts an accent, a flag, a joined emoji, a surrogate or CR LF.

    `since` is a place before `position` that is known to part nothing: a run of flags is counted from there.
    """
    if not 0 < position < len(text):
        return False
    before, after = text[position - 1], text[position]
    if before.isascii() and after.isascii():
        return before == "\r" and after == "\n"
    return (
        _extends(after)
        or before == _ZERO_WIDTH_JOINER
        or ("\ud800" <= before <= "\udbff" and "\udc00" <= after <= "\udfff")
        or ("\u1100" <= before <= "\u11ff" and "\u1160" <= after <= "\u11ff")  # the jamo of one Hangul syllable
        or (_is_regional(after) and _regional_before(text, position, since) % 2 == 1)
    )


def is_ideographic(character: str) -> bool:
    """Tell whether it is of a script without spaces where any two characters may part: Chinese and kana."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or character >= "\U00020000"


def _extends(character: str) -> bool:
    return (
        unicodedata.category(character)[0] == "M"
        or character in "\u200c\u200d\uff9e\uff9f"  # joiners; the voicing marks of half-width kana
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= character <= "\U000e007f"  # tags: the flags of Scotland, Wales
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regional_before(text: str, position: int, since: int) -> int:
    """Count the regional indicators that stand right before `position`: two make a flag."""
    start = position
    while start > since and _is_regional(text[start - 1]):
        start -= 1
    return position - start
