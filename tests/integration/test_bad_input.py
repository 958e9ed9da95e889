"""What cannot be answered, stored or reached is one clear error of the library's tree, and leaves no trace."""

import asyncio
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import JSON, URL, Engine, Text, any_, cast, create_engine, event, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DataError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from hybridsearch import (
    ConfigurationError,
    DatabaseError,
    DeclarationError,
    EncoderError,
    EncoderMismatch,
    ExtensionMissing,
    HybridSearch,
    QueryError,
    SchemaMissing,
    SearchIndex,
    ServerUnreachable,
    Settings,
)
from hybridsearch.backfill import backfill
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.database import explained
from hybridsearch.display import hits_as_json
from hybridsearch.page import Page
from hybridsearch.routines import undefine
from hybridsearch.state import filled
from hybridsearch.status import status
from tests.support.encoders import BREAKAGES, BrokenEncoder, WordHashEncoder
from tests.support.models import TEXTS, articles, fill


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(encoder=BrokenEncoder())
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


@pytest.fixture
def bare_engine(bare_database: URL) -> Iterator[Engine]:
    engine = create_engine(bare_database)
    yield engine
    engine.dispose()


def counts(engine: Engine, shop: SimpleNamespace) -> dict[str, int]:
    with Session(engine) as session:
        tables = (*shop.index.tables, filled)
        return {table.name: session.scalar(select(func.count()).select_from(table)) for table in tables}


def contents(engine: Engine, shop: SimpleNamespace) -> dict[str, list[Any]]:
    with Session(engine) as session:
        return {
            table.name: sorted(str(row) for row in session.execute(select(table)))
            for table in (*shop.index.tables, filled)
        }


# What is searched for


@pytest.mark.parametrize("query", ["", "   ", "\n\t\r", "\u2003\u00a0"])
def test_an_empty_query_is_refused(shop: SimpleNamespace, session: Session, query: str) -> None:
    with pytest.raises(QueryError, match="the query is empty: give at least one word"):
        shop.search.search(session, query)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("red\0chair", "a NUL at position 3"),
        ("\ud83d chair", "half a surrogate pair at position 0"),
        ("chair \udc00", "half a surrogate pair at position 6"),
        (None, "the query is a NoneType: give a string"),
        (b"chair", "the query is a bytes: give a string"),
    ],
)
@pytest.mark.parametrize("legs", [("dense", "lexical"), ("lexical",)])
def test_what_no_text_can_hold_is_refused(
    shop: SimpleNamespace, session: Session, query: Any, said: str, legs: tuple[str, ...]
) -> None:
    with pytest.raises(QueryError, match=said):
        shop.search.search(session, query, legs=legs)


def test_a_query_of_100000_characters_is_refused(shop: SimpleNamespace, session: Session) -> None:
    with pytest.raises(QueryError, match="the query has 100,000 characters, at most 10,000 are allowed: shorten it"):
        shop.search.search(session, "x" * 100_000)


def test_a_query_of_100000_characters_works_where_the_settings_allow_it(
    shop: SimpleNamespace, session: Session
) -> None:
    search = HybridSearch(shop.index, settings=Settings(max_query_length=100_000))
    assert search.search(session, ("red chair " * 10_000)[:100_000])[0].document.title == "Red chair"


def test_stop_words_only_are_answered_by_meaning(shop: SimpleNamespace, session: Session) -> None:
    hits = shop.search.search(session, "of the and")
    assert len(hits) == len(TEXTS)
    assert all(set(hit.ranks) == {"dense"} for hit in hits)
    assert shop.search.search(session, "of the and", legs=["lexical"]) == []


@pytest.mark.parametrize(
    "query", ["🪑", "👩‍👩‍👧‍👦 red chair", "!?", "'; drop table article; --", "%s %(x)s :name", "a\\b"]
)
def test_any_other_text_is_a_query(shop: SimpleNamespace, session: Session, query: str) -> None:
    assert len(shop.search.search(session, query)) == len(TEXTS)


# How it is searched for


@pytest.mark.parametrize("name", ["limit", "candidates"])
@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "is 0: give 1 to 1,000"),
        (-1, "is -1: give 1 to 1,000"),
        (1001, "is 1,001: give 1 to 1,000"),
        (10**6, "is 1,000,000: give 1 to 1,000"),
        ("10", "is '10': give a whole number"),
        (2.5, "is 2.5: give a whole number"),
        (True, "is True: give a whole number"),
    ],
)
def test_a_count_is_a_whole_number_from_1_to_1000(
    shop: SimpleNamespace, session: Session, name: str, count: Any, said: str
) -> None:
    with pytest.raises(QueryError, match=f"{name} {said}"):
        shop.search.search(session, "chair", **{name: count})


@pytest.mark.parametrize("count", [1, 1000])
def test_the_ends_of_the_range_work(shop: SimpleNamespace, session: Session, count: int) -> None:
    assert shop.search.search(session, "chair", limit=count, candidates=count)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"legs": ["sparkle"]}, "has no leg 'sparkle': its legs are dense, lexical"),
        ({"legs": ["dense", "sparkle"]}, "has no leg 'sparkle'"),
        ({"legs": []}, "no leg to fuse"),
        ({"weights": {"sparkle": 1}}, "weight for an unknown leg 'sparkle'"),
        ({"weights": {"dense": -1}}, "weight -1 of leg 'dense'"),
        ({"weights": {"dense": 0, "lexical": 0}}, "all weights are 0"),
    ],
)
def test_legs_and_weights_are_those_of_the_index(
    shop: SimpleNamespace, session: Session, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(QueryError, match=said):
        shop.search.search(session, "chair", **options)


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a\0b"], "a value of a condition holds a NUL"),
        (["\ud800"], "half a surrogate pair"),
        (list(map(str, range(70_000))), "give the values of a condition as one array"),
    ],
    ids=["NUL", "surrogate", "many"],
)
def test_values_of_a_condition_that_cannot_be_sent_are_refused(
    shop: SimpleNamespace, database: URL, driver: str, values: list[str], said: str
) -> None:
    async def main() -> None:
        engine = create_async_engine(database.set(drivername=driver))
        try:
            async with AsyncSession(engine) as session:
                with pytest.raises(QueryError, match=said):
                    await shop.search.search_async(session, "red", where=shop.Article.title.in_(values))
                await session.rollback()
                same = shop.Article.title == any_(cast(literal(["Red chair"], ARRAY(Text)), ARRAY(Text)))
                assert isinstance(await shop.search.search_async(session, "red", where=same), list)
        finally:
            await engine.dispose()

    asyncio.run(main())


def test_settings_of_the_environment_are_in_range(shop: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRIDSEARCH_CANDIDATES", "many")
    with pytest.raises(ConfigurationError, match=r"HYBRIDSEARCH_CANDIDATES is 'many': .*integer"):
        HybridSearch(shop.index)


# What is indexed


def test_no_rows_are_an_index_without_hits(engine: Engine) -> None:
    shop = articles()
    shop.Base.metadata.create_all(engine)
    for _ in range(2):
        with Session(engine) as session:
            assert HybridSearch(shop.index).search(session, "chair") == []
            assert status(session, shop.index).documents == 0
        assert backfill(engine, shop.index) == Page()


def test_a_long_text_and_an_odd_one_are_indexed(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    session.add(shop.Article(id=100, title="Long", body="word " * 20_000 + "needle"))
    session.add(shop.Article(id=101, title="🪑 \u200d \x01", body="\ufeff\ufffe"))
    session.commit()
    assert backfill(engine, shop.index).written == 2
    (hit,) = shop.search.search(session, "needle", legs=["lexical"])
    assert hit.document.id == 100


def test_nul_and_lone_surrogates_in_a_json_column_are_spaces_to_the_index(engine: Engine) -> None:
    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"

        id: Mapped[int] = mapped_column(primary_key=True)
        content: Mapped[Any] = mapped_column(JSON)

    index = SearchIndex(Note, ["content"], encoder=WordHashEncoder())
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        # `json`, unlike `jsonb`, keeps escapes that stand for no text.
        session.execute(
            text(r"""insert into note values (1, '{"a": "red\u0000chair \ud83d \ud83e\udd8a \udc00\\u0000"}')""")
        )
        session.commit()
        assert backfill(engine, index).written == 1
        (hit,) = HybridSearch(index).search(session, "chair", legs=["lexical"])
        assert hit.chunk.text.split() == ["a:", "red", "chair", "🦊", "\\u0000"]


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_what_a_broken_encoder_was_to_encode_is_found_by_its_words(
    shop: SimpleNamespace, engine: Engine, session: Session, breakage: str
) -> None:
    session.get(shop.Article, 1).title = "Purple sofa"
    session.add(shop.Article(id=5, title="New lamp", body=None))
    session.commit()
    before = contents(engine, shop)["article_chunk"]
    shop.index.encoder.broken = breakage
    with pytest.raises(EncoderError, match='encoder "word-hash"'):
        backfill(engine, shop.index)
    assert contents(engine, shop)["article_chunk"] == before
    (hit,) = shop.search.search(session, "purple", legs=["lexical"])
    assert hit.document.id == 1
    shop.index.encoder.broken = None
    assert backfill(engine, shop.index).written == 2


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_encoder_rebuilds_nothing(shop: SimpleNamespace, engine: Engine, breakage: str) -> None:
    before = contents(engine, shop)
    shop.index.encoder.broken = breakage
    with pytest.raises(EncoderError, match='encoder "word-hash"'):
        backfill(engine, shop.index, rebuild=True)
    assert contents(engine, shop) == before


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_query_that_a_broken_encoder_was_to_encode_is_not_asked(
    shop: SimpleNamespace, session: Session, breakage: str
) -> None:
    shop.index.encoder.broken = breakage
    with pytest.raises(EncoderError, match='encoder "word-hash"') as failure:
        shop.search.search(session, "chair", legs=["dense"])
    assert "\n" not in str(failure.value)
    assert not session.in_transaction()


def test_an_encoders_own_exception_is_the_cause(shop: SimpleNamespace, session: Session) -> None:
    shop.index.encoder.broken = "raises"
    with pytest.raises(EncoderError, match="ZeroDivisionError: the model fell over") as failure:
        shop.search.search(session, "chair", legs=["dense"])
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


# Index and encoder do not belong together


def test_another_encoders_index_is_neither_searched_nor_filled(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    other = articles(encoder=WordHashEncoder(revision="2"))
    before = contents(engine, shop)
    with pytest.raises(EncoderMismatch, match=r'filled by encoder "word-hash".*index again with rebuild'):
        HybridSearch(other.index).search(session, "chair")
    with pytest.raises(EncoderMismatch, match="index again with rebuild"):
        backfill(engine, other.index)
    assert contents(engine, shop) == before


def test_a_search_by_another_encoder_than_the_indexs_is_refused(shop: SimpleNamespace, session: Session) -> None:
    for other in (WordHashEncoder(revision="2"), WordHashEncoder(dimensions=16), WordHashEncoder(dimensions=48)):
        with pytest.raises(EncoderMismatch, match="index again with rebuild"):
            HybridSearch(shop.index, encoder=other).search(session, "chair")


@pytest.mark.parametrize(
    "options", [{}, {"deadline": 60}, {"legs": ["dense"]}, {"where": literal(False)}], ids=lambda given: "".join(given)
)
@pytest.mark.parametrize("apart", [False, True])
def test_a_search_after_another_encoder_filled_the_index_is_refused(
    shop: SimpleNamespace, engine: Engine, session: Session, apart: bool, options: dict[str, Any]
) -> None:
    search = HybridSearch(shop.index, settings=Settings(apart=apart))
    search.search(session, "chair", **options)
    session.rollback()
    other = articles(encoder=WordHashEncoder(revision="2"))
    backfill(engine, other.index, rebuild=True)
    for _ in range(2):  # the session goes on
        with pytest.raises(EncoderMismatch, match=r'filled by encoder "word-hash".*index again with rebuild'):
            search.search(session, "chair", **options)
    assert search.search(session, "chair", legs=["lexical"])
    session.rollback()
    backfill(engine, shop.index, rebuild=True)
    assert bool(search.search(session, "chair", **options)) == ("where" not in options)


def test_a_search_is_one_statement_that_says_who_filled_the_index(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    sent: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    assert shop.search.search(session, "chair", suggest=False)
    assert len(sent) == 1
    assert "fingerprint" in sent[0]


@pytest.mark.parametrize("rebuild", [False, True])
def test_dimensions_that_differ_from_the_columns_are_refused(engine: Engine, rebuild: bool) -> None:
    shop = articles(encoder=WordHashEncoder(dimensions=32))
    fill(engine, shop)
    other = articles(encoder=WordHashEncoder(dimensions=48))
    before = counts(engine, shop)
    with pytest.raises(EncoderMismatch, match=r'encoder "word-hash" \(48 dimensions\) differ .*32.*migrate the column'):
        backfill(engine, other.index, rebuild=rebuild)
    assert counts(engine, shop) == before


def test_an_encoder_that_grew_under_its_old_fingerprint_is_refused(shop: SimpleNamespace, session: Session) -> None:
    grown = WordHashEncoder(dimensions=48)
    grown.fingerprint = shop.index.encoder.fingerprint
    with pytest.raises(EncoderMismatch, match=r"\(48 dimensions\) differ .*migrate the column and reindex"):
        HybridSearch(articles(encoder=grown).index).search(session, "chair")


# The declaration


def test_a_field_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(DeclarationError, match="Article has no column attribute 'colour'; it has body, id, title"):
        articles(fields={"colour": 1.0})


# The server


def search_at(address: URL) -> None:
    engine = create_engine(address)
    try:
        with Session(engine) as session:
            HybridSearch(articles().index).search(session, "chair")
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://127.0.0.1:1/shop",
        "postgresql://nobody@/shop?host=/nowhere",
        "postgresql://no-such-host.invalid/shop",
        "postgresql://127.0.0.1:1/shop?no_such_option=1",
    ],
)
def test_a_server_that_is_not_there_is_unreachable(address: str) -> None:
    with pytest.raises(ServerUnreachable, match=r"cannot be reached: .* Check DATABASE_URL"):
        search_at(sqlalchemy_url(address))


def test_a_database_that_is_not_there_is_unreachable(server: URL) -> None:
    with pytest.raises(ServerUnreachable, match='database "no_such_database" does not exist'):
        search_at(server.set(database="no_such_database"))


def test_a_wrong_password_is_told_without_the_password(guarded_server: URL) -> None:
    with pytest.raises(SchemaMissing):  # the right password gets in
        search_at(guarded_server)
    with pytest.raises(ServerUnreachable, match="password authentication failed") as refusal:
        search_at(guarded_server.set(password="abracadabra"))
    assert "abracadabra" not in str(refusal.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("", "is not a URL"),
        ("shop", "is not a URL"),
        ("postgresql://host:port/shop", "is not a URL"),
        ("mysql://host/shop", "is for mysql: hybridsearch works with PostgreSQL"),
        ("sqlite:///shop.db", "is for sqlite"),
    ],
)
def test_an_address_is_a_url_of_postgresql(address: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        sqlalchemy_url(address)


def test_a_database_that_was_never_migrated_is_told_how(bare_engine: Engine) -> None:
    shop = articles()
    with pytest.raises(ExtensionMissing, match=r"no pgvector 0\.7 or later .* run `hybridsearch migrate`"), explained():
        shop.Base.metadata.create_all(bare_engine)
    with Session(bare_engine) as session, pytest.raises(SchemaMissing, match="run `hybridsearch migrate`"):
        HybridSearch(shop.index).search(session, "chair")
    with pytest.raises(SchemaMissing, match="run `hybridsearch migrate`"):
        backfill(bare_engine, shop.index)


def test_tables_that_were_never_created_are_told_how(engine: Engine, session: Session) -> None:
    shop = articles()
    shop.Article.__table__.create(engine)
    with pytest.raises(SchemaMissing, match=r'tables or functions of index "article" .*`alembic upgrade head`'):
        HybridSearch(shop.index).search(session, "chair")
    session.rollback()
    session.execute(insert(shop.Article).values(id=1, title="Red chair"))
    session.commit()
    with pytest.raises(SchemaMissing, match="alembic upgrade head"):
        backfill(engine, shop.index)
    assert session.scalar(select(func.count()).select_from(filled)) == 0


def test_functions_that_are_not_there_are_told_how(engine: Engine, session: Session) -> None:
    shop = articles(name="shelf")
    shop.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        undefine(connection, "shelf")
    with pytest.raises(SchemaMissing, match=r'functions of index "shelf" .*shelf_best.*`alembic upgrade head`'):
        HybridSearch(shop.index).search(session, "chair")


def test_a_role_that_may_not_is_told_so(shop: SimpleNamespace, engine: Engine, server: URL) -> None:
    role = f"reader_{shop.index.encoder.dimensions}_{id(engine)}"
    with engine.begin() as connection:
        connection.execute(text(f"create role {role}"))
    with Session(engine) as session:
        session.execute(text(f"set local role {role}"))
        with pytest.raises(DatabaseError, match=r"the role may not do this \(permission denied"):
            shop.search.search(session, "chair")
    with engine.begin() as connection:
        connection.execute(text(f"drop role {role}"))


def test_an_error_of_the_callers_own_is_left_to_him(shop: SimpleNamespace, session: Session) -> None:
    with pytest.raises(DataError, match="division by zero"):
        shop.search.search(session, "chair", where=text("1 / (article.id - article.id) > 0"))


def test_the_hits_of_a_search_are_plain_json(shop: SimpleNamespace, session: Session) -> None:
    hits = shop.search.search(session, "chair")
    assert json.loads(json.dumps(hits_as_json(hits, shop.index)))[0]["rank"] == 1
