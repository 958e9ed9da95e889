"""What every encoder does to a text before its tokenizer sees it."""

import re

# Tokenizers are written in Rust and take UTF-8: a lone surrogate raises, and a NUL ends the string for the C ones.
_UNENCODABLE = re.compile("[\0\ud800-\udfff]")


def clean(text: str) -> str:
    """Put a space for every NUL and lone surrogate; the length stays, so offsets into the source hold."""
    return _UNENCODABLE.sub(" ", text)
