"""Numbers and words of our own as part of a statement's text, where SQLAlchemy would make them parameters.

    select(...).limit(constant(100))

Of a LIMIT that is a parameter, a plan cannot know; and every run of a statement pays for each parameter that it has.
"""

from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, String, literal_column

DOUBLE = Float(53)


def constant(value: float | str) -> ColumnElement[Any]:
    """Return a whole number as an integer, another as a double, a word of this library's as a text.

    What a caller gives belongs here only where it is a count that comes again and again: other values of it are another
    statement.
    """
    if isinstance(value, str):
        return literal_column(f"'{value}'", String)
    if isinstance(value, int):
        return literal_column(f"{int(value)}", Integer)
    return literal_column(f"{float(value)!r}::float8", DOUBLE)
