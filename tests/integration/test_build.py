"""Many rows indexed at once: the same scores as one by one, beside what was there, whatever their columns are."""

import enum
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, Engine, Enum, Text, cast, delete, func, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import SearchIndex
from hybridsearch.backfill import backfill
from hybridsearch.lexical import lexical
from hybridsearch.postings import build, compact, prepare, rebuild
from hybridsearch.status import status
from hybridsearch.template import as_text
from hybridsearch.words import MANY, fill_words, index_words
from tests.support import oracles
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles
from tests.support.shelf import built, drop, put

ROWS = [
    {"id": n, "title": "oak " * (n % 4), "body": f"red chair w{n % 7} " * (n % 5) + "table " * (n % 97 == 0)}
    for n in range(1, 401)
]
WEIGHTS = {"title": 2.5, "body": 1.0}


def merge(session: Session, shop: Any) -> None:
    while compact(session, shop.index):
        session.commit()


def check(session: Session, shop: Any) -> None:
    """Hold scores and the best against the formula over the rows."""
    counted: dict[int, Counter[str]] = {}
    for row in session.execute(select(shop.Article.__table__)):
        counted[row.id] = Counter()
        for name, weight in WEIGHTS.items():
            for word in getattr(row, name).split():
                counted[row.id][word] += weight
    for query in ("oak", "red chair", "table w3 oak", "w6", "oak oak red chair table w0 w1 w2"):
        expected = oracles.bm25(Counter(query.split()), counted)
        for k in (1, 10, 1000):
            found = session.execute(lexical(shop.index, query, candidates=k)).all()
            best = sorted(expected.values(), reverse=True)[:k]
            assert [-row.distance for row in found] == pytest.approx(best, rel=1e-6)
            assert [expected[row[0]] for row in found] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("most", [1000, 150])
@pytest.mark.parametrize("merged", [False, True])
def test_what_is_built_in_bulk_scores_like_what_came_one_by_one(
    engine: Engine, session: Session, most: int, merged: bool
) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    put(session, shop, ROWS[:30])
    if merged:
        merge(session, shop)
    session.execute(insert(shop.Article), ROWS[30:])
    built(session, shop, most=most)
    check(session, shop)
    put(session, shop, [{"id": n, "title": "oak table", "body": "w3"} for n in range(1001, 1101)])
    drop(session, shop, 7)
    merge(session, shop)
    check(session, shop)
    assert session.scalar(select(func.count()).select_from(shop.index.documents)) == 499


def test_a_build_spans_ranges_and_leaves_nothing_pending(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    rows = [{"id": n, "title": "oak" if n % 300 == 0 else "", "body": f"red w{n % 9}"} for n in range(1, 34_001)]
    session.execute(insert(shop.Article), rows)
    prepare(session, shop.index)
    assert [build(session, shop.index), build(session, shop.index)] == [34_000, 0]
    session.commit()
    place, pending = shop.index.postings.c.place, shop.index.pending
    assert session.scalars(select(place).where(place >= 0).distinct().order_by(place)).all() == [1, 2, 3]
    assert session.scalar(select(func.count()).select_from(pending)) == 0
    check(session, shop)


def test_the_hash_is_of_the_recipe_and_the_fields_texts(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS)
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), [{"id": 1, "title": "Oak", "body": None}])
    prepare(session, shop.index)
    build(session, shop.index, recipe="v1")
    expected = session.scalar(text("""select sha256(convert_to('v1["Oak", null]', 'UTF8'))"""))
    assert session.scalar(select(shop.index.documents.c.hash)) == expected


def test_a_step_that_is_rolled_back_leaves_nothing(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), ROWS)
    session.execute(delete(shop.index.changes))
    session.commit()
    prepare(session, shop.index)
    session.commit()
    assert build(session, shop.index, most=100) == 100
    session.rollback()
    counts = [session.scalar(select(func.count()).select_from(table)) for table in shop.index.tables]
    assert counts == [1 if table is shop.index.statistics else 0 for table in shop.index.tables]
    built(session, shop)
    check(session, shop)


def test_a_rebuild_leaves_no_dead_postings_and_the_same_scores(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), ROWS[:250])
    built(session, shop)
    put(session, shop, ROWS[250:])
    compact(session, shop.index, documents=100)
    for key in (3, 5, 260, 390):  # merged and not; the removal of 5 is merged, that of 3 is not
        drop(session, shop, key)
        if key == 5:
            merge(session, shop)
            drop(session, shop, 7)
    hashes = select(shop.index.documents.c.article_id, shop.index.documents.c.hash).order_by("article_id")
    before = {row[0]: row[1] for row in session.execute(hashes)}
    session.commit()
    for step in rebuild(session, shop.index, most=100):
        assert step > 0
        check(session, shop)
        session.commit()
    merge(session, shop)
    check(session, shop)
    after = status(session, shop.index)
    assert (after.dead, after.pending, after.documents) == (0, 0, 395)
    assert after.postings == sum(session.scalars(select(func.cardinality(shop.index.documents.c.terms))))
    assert {row[0]: row[1] for row in session.execute(hashes)} == before


def test_a_content_that_comes_back_around_a_rebuild_has_its_own_words(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), ROWS)
    session.commit()
    backfill(engine, shop.index)
    table = shop.Article.__table__
    session.execute(update(table).where(table.c.id == 9).values(body="quite another"))
    session.execute(delete(table).where(table.c.id == 10))
    session.commit()
    for _ in rebuild(session, shop.index, most=100):
        session.commit()
    session.execute(update(table).where(table.c.id == 9).values(body=ROWS[8]["body"]))
    session.execute(insert(table), ROWS[9:10])
    session.commit()
    while index_words(session, shop.index):
        session.commit()
    merge(session, shop)
    check(session, shop)
    assert session.execute(lexical(shop.index, "quite", candidates=10)).all() == []


def relations(session: Session) -> list[str]:
    """The names of all tables, those of this transaction included."""
    return list(
        session.scalars(
            text("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace")
        )
    )


def test_what_a_build_makes_on_its_way_is_gone_with_it(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    before = sorted(relations(session))
    session.execute(insert(shop.Article), ROWS)
    prepare(session, shop.index)
    for _ in range(4):
        assert build(session, shop.index, most=100) == 100
        assert sorted(relations(session)) == before
    assert build(session, shop.index) == 0
    assert sorted(relations(session)) == before


def test_a_role_that_may_make_no_tables_fills_the_index_page_by_page(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    prepare(session, shop.index)
    session.execute(
        text("insert into article select n, 'oak', 'red chair' from generate_series(1, :many) as n"), {"many": MANY}
    )
    role = f"filler_{engine.url.database}"
    session.execute(text(f"create role {role}"))
    session.execute(text(f"grant usage on schema hybridsearch to {role}"))
    session.execute(text(f"grant all on all tables in schema public, hybridsearch to {role}"))
    session.commit()
    session.execute(text(f"set role {role}"))
    assert fill_words(session, shop.index) == 0
    while index_words(session, shop.index):
        pass
    assert session.scalar(select(func.count()).select_from(shop.index.documents)) == MANY
    session.commit()
    session.execute(text("reset role"))
    session.execute(delete(shop.index.documents))
    assert fill_words(session, shop.index) == MANY
    session.execute(text(f"drop owned by {role}"))
    session.execute(text(f"drop role {role}"))
    session.commit()


class Colour(enum.Enum):
    RED = "red"


def kinds() -> SimpleNamespace:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "thing"

        id: Mapped[int] = mapped_column(primary_key=True)
        facts: Mapped[Any] = mapped_column(JSONB)
        more: Mapped[Any] = mapped_column(JSON)
        tags: Mapped[Any] = mapped_column(ARRAY(Text))
        colour: Mapped[Any] = mapped_column(Enum(Colour))
        price: Mapped[float]

    fields = ["facts", "more", "tags", "colour", "price"]
    return SimpleNamespace(Base=Base, Thing=Thing, index=SearchIndex(Thing, fields, encoder=WordHashEncoder()))


def test_a_column_of_any_type_gives_sensible_words(engine: Engine, session: Session) -> None:
    shop = kinds()
    shop.Base.metadata.create_all(engine)
    row = {
        "facts": {"size": {"height": "tall"}, "none": None},
        "more": {"note": "caf\u00e9\nbar"},
        "tags": ["oak", "ash"],
    }
    session.execute(insert(shop.Thing), [{"id": 1, **row, "colour": Colour.RED, "price": 12.5}])
    built(session, SimpleNamespace(index=shop.index))
    words = set(session.scalars(select(shop.index.terms.c.term)))
    assert words == {"size", "height", "tall", "note", "café", "bar", "oak", "ash", "red", "12.5"}


SCALARS = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text("ab 1", max_size=4)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)


@given(value=DOCUMENTS)
@settings(max_examples=200)
def test_json_is_written_for_words_as_it_is_for_the_encoder(value: Any, session: Session) -> None:
    written = session.scalar(
        select(func.hybridsearch.json_text(cast(literal(value, JSONB(none_as_null=False)), JSONB)))
    )
    # jsonb has an order of keys of its own.
    assert Counter(re.split(r"[:;, ]+", written)) == Counter(re.split(r"[:;, ]+", as_text(value)))


def test_backfill_builds_many_rows_at_once_and_encodes_each_once(engine: Engine, session: Session) -> None:
    shop = articles(fields=WEIGHTS, config="simple")
    shop.Base.metadata.create_all(engine)
    rows = [{"id": n, "title": f"oak w{n % 9}", "body": "red chair"} for n in range(1, MANY + 101)]
    session.execute(insert(shop.Article), rows)
    session.commit()
    assert backfill(engine, shop.index).written == len(rows)
    assert session.scalar(select(func.min(shop.index.documents.c.id))) == 16_000
    held = status(session, shop.index)
    assert (held.documents, held.chunks, held.pending) == (len(rows), len(rows), 0)
    check(session, shop)
    assert backfill(engine, shop.index).written == 0
