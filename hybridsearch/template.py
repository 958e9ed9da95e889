"""Make one text of structured fields.

render("{title}. Brand: {brand}. {attrs}", {"title": "Lamp", "brand": None, "attrs": {"colour": "red"}})
# 'Lamp. colour: red'
"""

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hybridsearch.errors import DeclarationError

# What parts two fields: a colon or dash after the field, else the first punctuation mark or line end, else a space.
_SEPARATOR = re.compile(r"^\s*[:：]\s*|\s*\n\s*|\s*[.;,|。；，、·]\s*|\s+[-–—/]\s+")
_SPACE = re.compile(r"\s+")
_STOPS = ".!?。！？"


@dataclass(frozen=True)
class _Part:
    """A field with the text that goes when it goes: `before` and `after` it, and what parts it from the next one."""

    before: str
    field: str
    after: str
    separator: str


def render(template: str, values: Mapping[str, object]) -> str:
    """Fill `{field}` in the template from `values`.

    A field that is null, blank or empty is left out with its own text: that from the separator before it to the one
    after it, a separator being a line end, a punctuation mark, a colon or dash after a field, or else the first
    space. Of the separators around what is left out, the strongest stays (line end, then full stop, then the rest).
    A mapping becomes `key: value; key: value`, a nested one `key inner: value`, a list `value, value`, a boolean
    `true` or `false`; nulls inside them are left out too. `{{` and `}}` are braces.

    Raises DeclarationError for a template that is no such template, and for a field that `values` does not have.
    """
    out = ""
    held = ""  # the strongest separator since the last field that was written
    for part in _parse(template):
        if part.field not in values:
            raise DeclarationError(f"template has {{{part.field}}}; the fields are {', '.join(map(str, values))}")
        value = as_text(values[part.field])
        if value:
            out = _join(out, held) + part.before + value + part.after
            held = part.separator
        else:
            held = max(held, part.separator, key=_strength)
    return _join(out, held).strip() if out else ""


def as_text(value: object) -> str:
    """Write a value, as read from a column of any type, for an encoder; "" for what has nothing to say."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {text}" for key, text in _pairs(value))
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return ", ".join(text for item in items if (text := as_text(item)))
    return str(value).strip()


def _pairs(mapping: Mapping[object, object]) -> Iterator[tuple[str, str]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from ((f"{key} {inner}".strip(), text) for inner, text in _pairs(value))
        elif text := as_text(value):
            yield str(key).strip(), text


def _parse(template: str) -> list[_Part]:
    literals, fields = _literals(template)
    if not fields:
        raise DeclarationError(f'template "{template}" has no {{field}}')
    parts: list[_Part] = []
    before = literals[0]
    for field, literal in zip(fields, literals[1:], strict=True):
        after, separator, head = _cut(literal)
        if len(parts) == len(fields) - 1:  # nothing follows that the rest could be the head of
            separator += head
        parts.append(_Part(before, field, after, separator))
        before = head
    return parts


def _literals(template: str) -> tuple[list[str], list[str]]:
    """Return the n fields and the n + 1 texts around them."""
    literals, fields = [""], []
    try:
        for literal, field, specification, conversion in string.Formatter().parse(template):
            literals[-1] += literal
            if field is None:
                continue
            if not field.isidentifier() or specification or conversion:
                raise DeclarationError(f'template "{template}": {{{field}}} is not the plain name of a field')
            fields.append(field)
            literals.append("")
    except DeclarationError:
        raise
    except ValueError as error:  # a lone brace
        raise DeclarationError(f'template "{template}": {error}; write {{{{ or }}}} for a brace') from error
    return literals, fields


def _cut(literal: str) -> tuple[str, str, str]:
    """Part the text between two fields into the end of the first, the separator, the head of the second."""
    found = _SEPARATOR.search(literal) or _SPACE.search(literal)
    if not found:
        return literal, "", ""
    return literal[: found.start()], found.group(), literal[found.end() :]


def _join(out: str, separator: str) -> str:
    if not out:
        return ""
    repeated = out[-1] in _STOPS and separator[:1] in set(".。")
    return out + (separator[1:] if repeated else separator)


def _strength(separator: str) -> int:
    if "\n" in separator:
        return 3
    return 2 if any(stop in separator for stop in _STOPS) else len(separator) > 0
