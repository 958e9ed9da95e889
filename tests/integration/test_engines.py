"""The same claims for every lexical engine: the ranking of an oracle, conditions, updates, deletes, ties, scripts."""

from collections.abc import Hashable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Engine, delete, insert, text, update
from sqlalchemy.orm import Session

from hybridsearch import BM25, DeclarationError, ExtensionMissing, HybridSearch
from hybridsearch.alembic import autogenerate_options
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.database import explained
from hybridsearch.status import status
from tests.support import oracles
from tests.support.models import articles
from tests.support.ranked import QUERIES, ROWS, filled, scores, terms, words_of
from tests.support.textsearch import textsearch_database, textsearch_server

__all__ = ["textsearch_database", "textsearch_server"]

KINDS = ["sql", "memory", "pg_textsearch"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest) -> URL:
    """The address of a database of the test's own, on a server that has the engine."""
    address: URL = request.getfixturevalue("textsearch_database" if kind == "pg_textsearch" else "database")
    return address


@pytest.fixture
def shop(kind: str, engine: Engine) -> Any:
    return filled(engine, kind)


def expected(session: Session, shop: Any, query: str) -> dict[Hashable, float]:
    """The oracle's scores, over the rows as they are; where an engine's formula differs, it is said here."""
    bm25 = shop.index.bm25
    documents = words_of(session, shop)
    if shop.index.engine != "pg_textsearch":
        return oracles.bm25(terms(session, query), documents, k1=bm25.k1, b=bm25.b)
    # A tsvector has 255 places for a word, a document without a word is none, a length is kept in a byte.
    counted = {key: {term: min(times, 255) for term, times in document.items()} for key, document in documents.items()}
    known = {key: document for key, document in counted.items() if document}
    return oracles.bm25(terms(session, query), known, k1=bm25.k1, b=bm25.b, rounded=in_a_byte)


def in_a_byte(length: float) -> float:
    """A length as Lucene's SmallFloat keeps it: whole up to 40, above that with four binary digits."""
    above = int(length) - 24
    if above < 16:
        return int(length)
    shift = above.bit_length() - 4
    return 24 + ((above >> shift) << shift)


@pytest.mark.parametrize("query", QUERIES)
def test_scores_equal_the_formula(session: Session, shop: Any, query: str) -> None:
    wanted = expected(session, shop, query)
    found = scores(session, shop, query)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert list(found) == oracles.best(wanted, 100)


@pytest.mark.parametrize(
    "options", [{"fields": {"title": 3.0, "body": 1.0}}, {"bm25": BM25(k1=0.9, b=0.4)}, {"bm25": BM25(b=0)}], ids=str
)
def test_field_weights_and_parameters_are_those_of_the_declaration(
    engine: Engine, session: Session, kind: str, options: dict[str, Any]
) -> None:
    shop = filled(engine, kind, **options)
    for query in ("red", "oak oak red", "blue books"):
        assert scores(session, shop, query) == pytest.approx(expected(session, shop, query), rel=1e-6)


def test_a_word_counts_ten_thousand_times(engine: Engine, session: Session, shop: Any) -> None:
    """By pg_textsearch 255 times, see `expected`."""
    session.execute(insert(shop.Article), [{"id": 9, "title": "Oak", "body": "red " * 10_000}])
    session.commit()
    backfill(engine, shop.index)
    assert words_of(session, shop)[9]["red"] == 10_000
    assert scores(session, shop, "red") == pytest.approx(expected(session, shop, "red"), rel=1e-6)


@pytest.mark.parametrize("kind", ["sql", "memory"])  # the server that has pg_textsearch has no unaccent
def test_a_configuration_may_use_unaccent(engine: Engine, session: Session, kind: str) -> None:
    for statement in (
        "create extension unaccent",
        "create text search configuration plain (copy = simple)",
        "alter text search configuration plain alter mapping for hword, hword_part, word with unaccent, simple",
    ):
        session.execute(text(statement))
    session.commit()
    shop = articles(engine=kind, config="plain")
    shop.Base.metadata.create_all(engine)
    rows = {1: "Über das Café", 2: "uber das cafe", 3: "Ueber das Kaffeehaus"}
    session.execute(insert(shop.Article), [{"id": key, "title": title, "body": None} for key, title in rows.items()])
    session.commit()
    backfill(engine, shop.index)
    for query in ("über", "UBER CAFÉ", "cafe"):
        found = scores(session, shop, query)
        assert list(found) == [1, 2]
        assert found[1] == found[2]


def test_a_condition_leaves_out_rows_and_changes_no_score(session: Session, shop: Any) -> None:
    every = scores(session, shop, "red oak")
    assert {1, 5, 8} < set(every)
    found = scores(session, shop, "red oak", where=shop.Article.title != "Red chair", candidates=2)
    assert found == {key: every[key] for key in [key for key in every if key not in (1, 8)][:2]}
    assert scores(session, shop, "red oak", where=shop.Article.id < 0) == {}


def test_updates_inserts_and_deletes_are_followed(engine: Engine, session: Session, shop: Any) -> None:
    scores(session, shop, "red")
    session.execute(update(shop.Article).where(shop.Article.id == 2).values(title="Red red table"))
    session.execute(delete(shop.Article).where(shop.Article.id == 4))
    session.execute(insert(shop.Article), [{"id": 9, "title": "Red bench", "body": "red oak"}])
    session.commit()
    backfill(engine, shop.index)
    if shop.index.engine == "pg_textsearch":
        # Its N, n and average are those of all that was ever indexed, until the index is built again.
        session.execute(text("reindex index article_word_bm25"))
        session.commit()
    for query in ("red", "oak bench", "tabl table"):
        wanted = expected(session, shop, query)
        assert scores(session, shop, query) == pytest.approx(wanted, rel=1e-6)
    assert set(scores(session, shop, "bench")) == {9}
    upkeep(engine, shop.index)
    assert scores(session, shop, "red") == pytest.approx(expected(session, shop, "red"), rel=1e-6)


def test_a_deleted_row_is_not_found_and_takes_no_place(session: Session, shop: Any) -> None:
    before = list(scores(session, shop, "red"))
    session.execute(delete(shop.Article).where(shop.Article.id == before[0]))
    assert list(scores(session, shop, "red", candidates=2)) == before[1:3]


def test_ties_are_ordered_by_key(session: Session, shop: Any) -> None:
    found = scores(session, shop, "chair oak")
    assert found[1] == found[8]
    assert list(found).index(1) + 1 == list(found).index(8)


def test_an_empty_table_finds_nothing(engine: Engine, session: Session, kind: str) -> None:
    shop = articles(engine=kind)
    shop.Base.metadata.create_all(engine)
    assert scores(session, shop, "red") == {}
    backfill(engine, shop.index)
    assert scores(session, shop, "red") == {}


def test_rows_without_a_word_find_nothing(engine: Engine, session: Session, kind: str) -> None:
    shop = articles(engine=kind)
    shop.Base.metadata.create_all(engine)
    session.execute(insert(shop.Article), [{"id": 1, "title": "the of", "body": None}])
    session.commit()
    backfill(engine, shop.index)
    assert scores(session, shop, "the red") == {}


def test_the_leg_is_one_of_the_fusion(session: Session, shop: Any) -> None:
    hits = HybridSearch(shop.index).search(session, "blue books")
    assert hits[0].document.id == 5
    assert hits[0].ranks["lexical"] == 1
    assert "dense" in hits[0].ranks


@pytest.mark.parametrize("query", QUERIES)
def test_the_terms_of_an_explanation_add_up_to_the_score(session: Session, shop: Any, query: str) -> None:
    scored = expected(session, shop, query)
    found = HybridSearch(shop.index).explain(session, query, limit=50)
    assert [hit.score for hit in HybridSearch(shop.index).search(session, query, limit=50)] == [
        one.score for one in found
    ]
    parts = {one.key["id"]: one.lexical for one in found if one.lexical is not None}
    assert parts.keys() == scored.keys() - {key for key, score in scored.items() if score <= 0}
    for key, part in parts.items():
        assert part.current
        assert part.score == pytest.approx(scored[key], rel=1e-6)
        assert sum(term.score for term in part.terms) == pytest.approx(part.score, rel=1e-6)
        assert {term.term for term in part.terms} <= terms(session, query).keys()


def test_an_index_keeps_the_tables_of_its_engine_alone(session: Session, shop: Any, kind: str) -> None:
    parts = {table.name.removeprefix("article_") for table in shop.index.tables}
    wanted = {"sql": {"term", "posting", "pending", "statistics"}, "memory": set(), "pg_textsearch": {"word"}}[kind]
    assert {"document", "chunk", "change", "queue"} | wanted == parts
    found = status(session, shop.index)
    assert found.documents == len(ROWS)
    assert bool(found.terms) == (kind == "sql")


def test_a_migration_finds_nothing_to_do(engine: Engine, shop: Any) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=autogenerate_options())
        assert compare_metadata(context, shop.Base.metadata) == []


def test_the_function_in_sql_ranks_by_the_engine(session: Session, shop: Any, kind: str) -> None:
    if kind == "memory":
        assert session.scalar(text("select to_regproc('article_search')")) is None
        return
    rows = session.execute(text("select * from article_search('blue books', legs => '{lexical}')")).all()
    assert [row.article_id for row in rows] == list(scores(session, shop, "blue books"))


@pytest.mark.parametrize("kind", ["sql"])
def test_pg_textsearch_that_is_not_there_is_said_to_be_missing(engine: Engine) -> None:
    shop = articles(engine="pg_textsearch")
    with pytest.raises(ExtensionMissing, match="this database has no pg_textsearch"), explained(shop.index):
        shop.Base.metadata.create_all(engine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": {"title": 2.5}}, "weight of 'title' has to be a whole number, not 2.5"),
        ({"bm25": BM25(k1=0)}, "takes a k1 from 0.1 to 10, not 0"),
        ({"bm25": BM25(idf="okapi")}, 'the engine "pg_textsearch" has idf "lucene" alone'),
    ],
)
def test_what_pg_textsearch_cannot_compute_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        articles(engine="pg_textsearch", **options)


def test_auto_is_what_the_database_has_and_stays_what_it_was(
    engine: Engine, database: URL, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.render_as_string(hide_password=False))
    extended = kind == "pg_textsearch"
    assert articles(engine="auto").index.engine == ("pg_textsearch" if extended else "sql")
    okapi = articles(engine="auto", bm25=BM25(idf="okapi")).index
    assert okapi.engine == "sql"
    first = articles(engine="memory")
    first.Base.metadata.create_all(engine)
    assert articles(engine="auto").index.engine == "memory"


def test_auto_does_not_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(DeclarationError, match="is not set"):
        articles(engine="auto")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(DeclarationError, match="does not answer"):
        articles(engine="auto")
