"""Build the statement of a search once, and run it again with other values: building costs more than running it.

    statement, values = prepared(index, query, plan, with_filler=True)
    session.execute(statement, values)

A statement is kept for each form of a search: its options, and the form of its condition; its words, its vector and the
values in the condition are handed over when it runs. What has other inputs is built each time.
"""

import threading
import uuid
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import BindParameter, ColumnElement, Select
from sqlalchemy.sql.visitors import ExternallyTraversible

from hybridsearch.hits import documents
from hybridsearch.model import SearchIndex
from hybridsearch.options import Plan
from hybridsearch.query import Query
from hybridsearch.ranking import leg_names, ranking
from hybridsearch.state import told_by

KEPT = 64  # statements an index

_kept: WeakKeyDictionary[SearchIndex, OrderedDict[Hashable, "_Form"]] = WeakKeyDictionary()
_lock = threading.Lock()


@dataclass(frozen=True)
class _Form:
    """A statement, and the names of its parameters by what they are: words, vector, values of the condition."""

    statement: Select[Any]
    words: Sequence[str]
    vectors: Sequence[str]
    condition: Sequence[str]


def prepared(
    index: SearchIndex, query: Query, plan: Plan, *, with_filler: bool = False
) -> tuple[Select[Any], dict[str, Any]]:
    """Return the statement that reads the hits of a search, and the values that it is to be run with.

    It says which encoder filled the index as well, if that is wanted (`hybridsearch.state`).
    """
    condition, bound = _form_of(plan.where)
    if condition is None or not _is_plain(index, query, plan):
        return _statement(index, query, plan, with_filler), {}
    names = leg_names(index, query, plan)
    weights = tuple(sorted(plan.weights.items()))
    has = (query.text is None, query.dense is None, with_filler)
    key = (names, plan.limit, plan.candidates, plan.ef_search, plan.fusion, plan.rrf_k, weights, has, condition)
    form = _remembered(index, key)
    if form is None:
        form = _remember(index, key, _built(index, query, plan, [one.key for one in bound], with_filler))
    values: dict[str, Any] = dict.fromkeys(form.words, query.text)
    values |= dict.fromkeys(form.vectors, None if query.dense is None else index.storage.written.write(query.vector))
    values |= {name: one.effective_value for name, one in zip(form.condition, bound, strict=True)}
    return form.statement, values


def _statement(index: SearchIndex, query: Query, plan: Plan, with_filler: bool) -> Select[Any]:
    statement = documents(index, ranking(index, query, plan).limit(plan.limit), query)
    return told_by(index, statement) if with_filler else statement


def _is_plain(index: SearchIndex, query: Query, plan: Plan) -> bool:
    """Whether nothing but words, a vector and the condition goes into the statement."""
    operators = query.parsed is not None and (query.parsed.phrases or query.parsed.excluded or query.parsed.prefixes)
    other = (query.sparse, query.read, index.storage.bits, plan.config)
    return index.engine == "sql" and not operators and not plan.boosts and all(one is None for one in other)


def _form_of(where: ColumnElement[bool] | None) -> tuple[Hashable | None, Sequence[BindParameter[Any]]]:
    """What is the same in two conditions that differ in their values alone, and these; None where that is not known."""
    if where is None:
        return (), ()
    form = where._generate_cache_key()
    return (None, ()) if form is None else (_Same(form), form.bindparams)


class _Same:
    """A cache key of SQLAlchemy as a key of ours."""

    def __init__(self, form: Any) -> None:
        self.key = form.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.key == other.key


def _built(index: SearchIndex, query: Query, plan: Plan, condition: Sequence[str], with_filler: bool) -> _Form:
    # Values of their own, to be found again among the parameters.
    words = None if query.text is None else uuid.uuid4().hex
    vector = None if query.dense is None else np.array(query.vector)
    asked = replace(query, text=words, dense=vector)
    statement = _statement(index, asked, plan, with_filler)
    bound = list(_parameters(statement))
    return _Form(
        statement,
        sorted({one.key for one in bound if words is not None and one.value is words}),
        sorted({one.key for one in bound if vector is not None and one.value is vector}),
        condition,
    )


def _parameters(statement: Select[Any]) -> Iterator[BindParameter[Any]]:
    """The parameters of a statement. Its parts refer to one another: each is visited once."""
    met: dict[int, ExternallyTraversible] = {}
    waiting: list[ExternallyTraversible] = [statement]
    while waiting:
        part = waiting.pop()
        if id(part) not in met:
            met[id(part)] = part
            waiting.extend(part.get_children())
    return (part for part in met.values() if isinstance(part, BindParameter))


def _remembered(index: SearchIndex, key: Hashable) -> _Form | None:
    with _lock:
        forms = _kept.setdefault(index, OrderedDict())
        if key in forms:
            forms.move_to_end(key)
        return forms.get(key)


def _remember(index: SearchIndex, key: Hashable, form: _Form) -> _Form:
    with _lock:
        forms = _kept.setdefault(index, OrderedDict())
        forms[key] = form
        while len(forms) > KEPT:
            forms.popitem(last=False)
    return form
