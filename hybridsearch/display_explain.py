"""Explanations for the terminal: a hit a block, a line for each thing that is added up."""

import re
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from hybridsearch.display import label
from hybridsearch.explanation import Explanation, LegPart, LexicalPart, SparsePart
from hybridsearch.missed import WhyNot
from hybridsearch.model import SearchIndex

MAX_TOKENS = 8  # of the sparse leg; --json has them all

_LONG = re.compile(r"\d+\.\d+(e-?\d+)?")
Line = tuple[str, str, str]


def explanations_table(query: str, found: Sequence[Explanation], index: SearchIndex) -> Table:
    """Return the parts of every hit's score as a table."""
    table = Table(title=Text(repr(query)), title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column("document", overflow="fold", ratio=1)
    table.add_column("part", overflow="fold")
    table.add_column("arithmetic", overflow="fold", ratio=2)
    table.add_column("value", justify="right")
    for one in found:
        table.add_row(str(one.rank), Text(label(one, index)), "score", "", f"{one.score:.6f}")
        for part, arithmetic, value in _lines(one):
            table.add_row("", "", Text(part), Text(arithmetic), value)
        table.add_section()
    return table


def why_not_table(query: str, found: WhyNot) -> Table:
    """Return what became of one document as a table."""
    table = Table(title=Text(repr(query)), title_justify="left")
    table.add_column("document")
    table.add_column("stage")
    table.add_column("reason", overflow="fold")
    key = ", ".join(f"{name} {value}" for name, value in found.key.items())
    table.add_row(Text(key), found.stage, Text(found.reason))
    for name, loss in found.legs.items():
        table.add_row("", name, loss.stage + ("" if loss.rank is None else f", rank {loss.rank:,}"))
    return table


def _lines(one: Explanation) -> Iterator[Line]:
    for name, leg in one.legs.items():
        yield name, _leg(name, leg), f"{leg.share:.6f}"
        if name == "lexical" and one.lexical is not None:
            yield from _terms(one.lexical)
        if name == "sparse" and one.sparse is not None:
            yield from _tokens(one.sparse)
    for name, factor in one.boosts.items():
        yield name, "boost", f"x {factor:.4f}"


def _leg(name: str, leg: LegPart) -> str:
    what = {"dense": f"distance {-leg.score:.4f}", "lexical": f"BM25 {leg.score:.4f}"}.get(name, f"{leg.score:.4f}")
    return f"{_LONG.sub(_short, leg.arithmetic)}   rank {leg.rank}, {what}"


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.6g}"


def _terms(lexical: LexicalPart) -> Iterator[Line]:
    for part in lexical.terms:
        times = "" if part.times == 1 else f"{part.times} · "
        idf = f"idf {part.idf:.4f}"
        if part.documents is not None:
            idf += f" ({part.documents:,} of {lexical.documents:,})"
        k = lexical.k1 + 1
        tf = f"{part.frequency:g} · {k:g} / ({part.frequency:g} + {part.length_part:.4f})"
        yield f"  {part.term}", f"{times}{idf} · {tf}", f"{part.score:.4f}"
    if not lexical.current:
        yield "", "the row has changed since its words were indexed", ""


def _tokens(sparse: SparsePart) -> Iterator[Line]:
    for part in sparse.tokens[:MAX_TOKENS]:
        yield f"  token {part.token}", f"{part.query_weight:.4f} · {part.weight:.4f}", f"{part.score:.4f}"
    more = sparse.tokens[MAX_TOKENS:]
    if more:
        yield "", f"and {len(more)} more", f"{sum(part.score for part in more):.4f}"
