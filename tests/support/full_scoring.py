"""Plain full scoring in SQL, the lexical engine before this one: what the ranking of the best is held against.

    with Session(engine) as session:
        count_terms(session, index)                                  # a table of (document, term, frequency)
        session.execute(full_scoring(index, "red chair", 100))       # Select(key, score)

It shares the analysis with the engine, and nothing else: it reads the model's rows.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Column,
    Float,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    cast,
    func,
    insert,
    literal,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from hybridsearch import SearchIndex
from hybridsearch.lexical import configuration, terms_of

DOUBLE = Float(53)


def counted(index: SearchIndex) -> Table:
    """The table of terms, of an index whose model has one integer key."""
    return Table(
        f"{index.name}_counted",
        MetaData(),
        Column("document", BigInteger, nullable=False),
        Column("term", Text, nullable=False, index=True),
        Column("frequency", REAL, nullable=False),
    )


def entries(index: SearchIndex) -> Select[Any]:
    """(document, term, frequency) from the model's rows as they are in this snapshot."""
    (key,) = index.keys
    fields = []
    for name, weight in index.fields.items():
        column = index.mapper.column_attrs[name].columns[0]
        term = terms_of(configuration(index), column)
        weighted = (cast(literal(weight), DOUBLE) * term.c.frequency).label("frequency")
        fields.append(select(key.label("document"), term.c.term, weighted).join_from(index.table, term, true()))
    every = union_all(*fields).subquery()
    return select(every.c.document, every.c.term, func.sum(every.c.frequency).label("frequency")).group_by(
        every.c.document, every.c.term
    )


def count_terms(session: Session, index: SearchIndex) -> None:
    """Write the table of terms of a corpus that stands still."""
    table = counted(index)
    table.create(session.connection())
    session.execute(insert(table).from_select(["document", "term", "frequency"], entries(index)))
    session.execute(text(f"analyze {table.name}"))


def full_scoring(index: SearchIndex, query: str, candidates: int) -> Select[Any]:
    """Return (key, score) of the best by BM25; every document is scored."""
    (key,) = index.keys
    posting = counted(index)
    lengths = (
        select(key.label("document"), func.coalesce(func.sum(posting.c.frequency), 0.0).label("length"))
        .join_from(index.table, posting, posting.c.document == key, isouter=True)
        .group_by(key)
        .cte("length")
    )
    statistics = select(func.count().label("n"), func.avg(cast(lengths.c.length, DOUBLE)).label("average")).select_from(
        lengths
    )
    total = statistics.cte("total")
    asked = terms_of(configuration(index), literal(query, Text)).alias("asked")
    having = (
        select(posting.c.term, cast(func.count(), DOUBLE).label("n"))
        .where(posting.c.term.in_(select(asked.c.term)))
        .group_by(posting.c.term)
        .cte("having")
    )
    k1, b = index.bm25.k1, index.bm25.b
    idf = func.ln(1 + (total.c.n - having.c.n + 0.5) / (having.c.n + 0.5))
    frequency = cast(posting.c.frequency, DOUBLE)
    norm = k1 * (1 - b + b * lengths.c.length / total.c.average)
    part = cast(asked.c.frequency, Integer) * idf * frequency * (k1 + 1) / (frequency + norm)
    score = func.sum(part).label("score")
    return (
        select(posting.c.document, score)
        .join_from(asked, having, having.c.term == asked.c.term)
        .join(posting, posting.c.term == asked.c.term)
        .join(lengths, lengths.c.document == posting.c.document)
        .join(total, true())
        .group_by(posting.c.document)
        .order_by(score.desc(), posting.c.document)
        .limit(candidates)
    )
