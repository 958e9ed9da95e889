"""From a column's value to text.

to_text({"colour": "red", "ports": 3})     # "colour: red. ports: 3"
"""

from typing import Any


def to_text(value: Any) -> str:
    """Return a value as a person would write it.

    Mappings become `name: value`, lists are joined, numbers and dates are as they print.
    A null, in a mapping or a list, is left out; so is a flag that is false. A flag that is true is its name alone.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return ". ".join(
            _pair(str(name), part) for name, part in value.items() if part is not None and part is not False
        )
    if isinstance(value, list | tuple | set):
        return ", ".join(to_text(part) for part in value if part is not None)
    return str(value)


def _pair(name: str, value: Any) -> str:
    return name if value is True else f"{name}: {to_text(value)}"
