"""A text search configuration for each row, one of the user's own, and one for a query."""

from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Text, cast, delete, insert, literal, select, text, update
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch import DatabaseError, DeclarationError, HybridSearch, QueryError
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.lexical import terms_of
from tests.support import oracles
from tests.support.languages import notes
from tests.support.models import articles
from tests.support.ranked import scores

ROWS = [
    {"id": 1, "language": "english", "body": "The houses were running out of chairs"},
    {"id": 2, "language": "german", "body": "Die Häuser und die Stühle der Bücher"},
    {"id": 3, "language": "simple", "body": "The houses were running"},
    {"id": 4, "language": "de", "body": "Das Haus mit dem Buch"},
    {"id": 5, "language": "en-US", "body": "a house with books"},
    {"id": 6, "language": None, "body": "houses of nobody"},
    {"id": 7, "language": "klingon", "body": "houses of Qo'noS"},
    {"id": 8, "language": "no such; language", "body": "more houses"},
]
DEFAULT = {"de": "german", "en-US": "english", None: "english", "klingon": "english", "no such; language": "english"}


@pytest.fixture(params=["sql", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(engine: Engine, kind: str) -> Any:
    shop = notes(engine=kind)
    fill(engine, shop, ROWS)
    return shop


def fill(engine: Engine, shop: Any, rows: list[dict[str, Any]]) -> None:
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(shop.Note), rows)
        session.commit()
    backfill(engine, shop.index)


def terms(session: Session, content: str, config: str) -> Counter[str]:
    found = terms_of(cast(literal(config), REGCONFIG), literal(content, Text))
    counted: Counter[str] = Counter()
    for row in session.execute(select(found)):
        counted[row.term] += row.frequency
    return counted


def expected(session: Session, shop: Any, query: str, config: str) -> dict[Hashable, float]:
    """The oracle's scores, each row's words analysed by its own configuration."""
    rows = session.execute(select(shop.Note.id, shop.Note.body, shop.Note.language))
    documents = {row.id: terms(session, row.body, DEFAULT.get(row.language, row.language)) for row in rows}
    return oracles.bm25(terms(session, query, config), documents)


@pytest.mark.parametrize(
    ("query", "config", "found"),
    [
        ("house", None, {1, 5, 6, 7, 8}),
        ("Hause", "german", {2, 4}),
        ("Buches", "de", {2, 4}),
        ("running houses", "simple", {3}),
        ("running the", "english", {1}),
    ],
)
def test_each_row_is_analysed_by_its_own_configuration(
    session: Session, shop: Any, query: str, config: str | None, found: set[int]
) -> None:
    index = shop.index if config is None else shop.index.asked_in(config)
    asked = scores(session, type(shop)(index=index), query)
    assert set(asked) == found
    assert asked == pytest.approx(expected(session, shop, query, DEFAULT.get(config, config)), rel=1e-6)


def test_the_query_has_a_configuration_of_its_own(session: Session, shop: Any) -> None:
    search = HybridSearch(shop.index)
    german = search.search(session, "die Häuser", legs=["lexical"], config="german")
    assert {hit.document.id for hit in german} == {2, 4}
    assert search.search(session, "die Häuser", legs=["lexical"]) == []
    assert {hit.document.id for hit in search.explain(session, "Haus", legs=["lexical"], config="de")} == {2, 4}


def test_a_changed_language_is_a_changed_document(engine: Engine, session: Session, shop: Any) -> None:
    session.execute(update(shop.Note).where(shop.Note.id == 3).values(language="english"))
    session.commit()
    assert backfill(engine, shop.index).written == 1
    assert scores(session, shop, "house") == pytest.approx(expected(session, shop, "house", "english"), rel=1e-6)
    assert 3 in scores(session, shop, "house")


def test_a_query_in_a_configuration_that_there_is_not_is_refused(session: Session, shop: Any) -> None:
    search = HybridSearch(shop.index)
    with pytest.raises(DatabaseError, match='text search configuration "klingon" does not exist'):
        search.search(session, "house", config="klingon")
    with pytest.raises(QueryError, match="config is '': give the name"):
        search.search(session, "house", config="")


def test_another_default_may_be_declared(engine: Engine, session: Session, kind: str) -> None:
    shop = notes(engine=kind, default_config="simple")
    fill(engine, shop, ROWS)
    assert set(scores(session, shop, "houses")) == {3, 6, 7, 8}


def test_the_column_may_be_of_the_type_regconfig(engine: Engine, session: Session, kind: str) -> None:
    shop = notes(REGCONFIG, engine=kind)
    fill(engine, shop, [ROWS[0], ROWS[1], ROWS[5]])
    assert set(scores(session, shop, "house")) == {1, 6}
    assert set(scores(session, type(shop)(index=shop.index.asked_in("german")), "haus")) == {2}


def test_a_configuration_of_ones_own_is_known_by_its_name(engine: Engine, session: Session, kind: str) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("create text search dictionary shouting (template = synonym, synonyms = synonym_sample)")
        )
        connection.execute(text("create text search configuration mine (copy = simple)"))
        connection.execute(
            text("alter text search configuration mine alter mapping for asciiword with shouting, simple")
        )
    rows = [{"id": 1, "body": "postgres"}, {"id": 2, "body": "pgsql"}, {"id": 3, "body": "postgresql"}]
    shop = articles(engine=kind, config="mine", fields=["title"])
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), [{"id": row["id"], "title": row["body"]} for row in rows])
    session.commit()
    backfill(engine, shop.index)
    assert set(scores(session, shop, "postgres")) == {1, 2, 3}
    shop = notes(engine=kind)
    fill(engine, shop, [row | {"language": "public.mine" if row["id"] == 1 else "simple"} for row in rows])
    assert set(scores(session, type(shop)(index=shop.index.asked_in("mine")), "postgresql")) == {1, 2}


def test_a_parser_of_ones_own_gets_the_text_as_it_is(engine: Engine, session: Session) -> None:
    # The functions of PostgreSQL's own parser, under another name: Chinese is one word to it.
    parser = "start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype"
    with engine.begin() as connection:
        connection.execute(text(f"create text search parser own ({parser})"))
        connection.execute(text("create text search configuration chinese (parser = own)"))
        connection.execute(text("alter text search configuration chinese add mapping for word, asciiword with simple"))
    assert terms(session, "红色的椅子 oak DV7-1211ea", "chinese") >= Counter(
        {"红色的椅子": 1, "oak": 1, "dv7-1211ea": 1}
    )
    assert "红色" not in terms(session, "红色的椅子", "chinese")
    assert set(terms(session, "红色的椅子", "simple")) == {"红色", "色的", "的椅", "椅子"}
    shop = articles(config="chinese")
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), [{"id": 1, "title": "红色的椅子"}, {"id": 2, "title": "红色"}])
    session.commit()
    backfill(engine, shop.index)
    assert set(scores(session, shop, "红色")) == {2}


def test_sql_asks_in_the_default_configuration(engine: Engine, session: Session) -> None:
    shop = notes()
    fill(engine, shop, ROWS)
    found = session.execute(text("select * from note_search('house', legs => '{lexical}')"))
    assert {row.note_id for row in found} == {1, 5, 6, 7, 8}


def test_config_is_a_name_or_a_column_of_the_model() -> None:
    other = notes()
    with pytest.raises(DeclarationError, match="give a name, or a column of Note"):
        notes(config=other.Note.language)
    with pytest.raises(DeclarationError, match="give a name, or a column of Note"):
        notes(config=3)


languages = st.sampled_from(["english", "german", "simple", "de", None, "klingon"])
bodies = st.lists(st.sampled_from(["houses", "Häuser", "the", "die", "running", "laufend"]), min_size=1, max_size=6)
writes = st.lists(st.tuples(st.integers(1, 6), languages, bodies), min_size=1, max_size=12)


@settings(max_examples=10)
@given(steps=st.lists(writes, min_size=1, max_size=3))
def test_any_sequence_of_writes_ends_in_the_scores_of_the_rows(
    engine: Engine, session: Session, steps: list[list[tuple[int, str | None, list[str]]]]
) -> None:
    shop = notes()
    shop.Base.metadata.create_all(engine)
    for writes in steps:
        for key, language, words in writes:
            session.execute(delete(shop.Note).where(shop.Note.id == key))
            session.execute(insert(shop.Note), [{"id": key, "language": language, "body": " ".join(words)}])
        session.commit()
        backfill(engine, shop.index)
    upkeep(engine, shop.index)
    for query, config in (("the houses running", "english"), ("die Häuser laufen", "german")):
        asked = type(shop)(index=shop.index.asked_in(config))
        assert scores(session, asked, query) == pytest.approx(expected(session, shop, query, config), rel=1e-6)
    session.execute(delete(shop.Note))
    session.commit()
    backfill(engine, shop.index)
