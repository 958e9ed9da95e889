"""What happened to some rows of a table, in figures that can be added up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """How many rows were read, documents written (new or changed), and removed from the index."""

    read: int = 0
    written: int = 0
    removed: int = 0

    def __add__(self, other: "Page") -> "Page":
        return Page(self.read + other.read, self.written + other.written, self.removed + other.removed)
