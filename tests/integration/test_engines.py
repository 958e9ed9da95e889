"""The same claims for every lexical engine: the ranking of an oracle, conditions, updates, deletes, ties, scripts."""

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

import pytest
from rank_bm25 import BM25Okapi
from sqlalchemy import Engine, Text, cast, delete, event, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import REGCONFIG
from sqlalchemy.orm import Session

from hybridsearch import BM25, DeclarationError, HybridSearch, QueryError
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.engines import engine_of
from hybridsearch.engines.memory import MAX_DOCUMENTS
from hybridsearch.lexical import terms_of
from hybridsearch.status import status
from tests.support import oracles
from tests.support.models import articles

KINDS = ["sql", "memory"]
ROWS = [
    {"id": 1, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
    {"id": 2, "title": "Blue table", "body": None},
    {"id": 3, "title": "the of and", "body": ""},
    {"id": 4, "title": "Oak", "body": "red " * 300},
    {"id": 5, "title": "Oak shelf", "body": "for red books and blue books"},
    {"id": 6, "title": "红色的椅子和桌子", "body": "橡木椅子 oak 2010-2011秋季"},
    {"id": 7, "title": "DV7-1211ea", "body": "part 006R90321 in C++ at 2.13GHz; naïve Ünïcödé 🪑"},
    {"id": 8, "title": "Red chair", "body": "A red chair, made of oak. Chairs, chairs, chairs!"},
]
QUERIES = [
    "red",
    "red chair",
    "oak oak red",
    "blue books on a shelf",
    "椅子",
    "dv7-1211ea c++",
    "ünïcödé",
    "nothing here",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(kind: str, engine: Engine) -> Any:
    return filled(engine, kind)


def filled(engine: Engine, kind: str, **options: Any) -> Any:
    """Eight articles, indexed for the engine."""
    shop = articles(engine=kind, **options)
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(insert(shop.Article), ROWS)
        session.commit()
    backfill(engine, shop.index)
    return shop


def scores(session: Session, shop: Any, query: str, *, candidates: int = 100, where: Any = None) -> dict[int, float]:
    """The leg's keys and scores, in its order."""
    engine = engine_of(shop.index)
    read = engine.read(session, shop.index, query)
    leg = engine.leg(shop.index, query, candidates=candidates, where=where, read=read)
    return {row[0]: -row.distance for row in session.execute(leg)}


def expected(session: Session, shop: Any, query: str) -> dict[Hashable, float]:
    """The oracle's scores, over the rows as they are."""
    bm25 = shop.index.bm25
    documents: dict[Hashable, Mapping[str, float]] = {}
    for article in session.scalars(select(shop.Article).execution_options(populate_existing=True)):
        total: Counter[str] = Counter()
        for name, weight in shop.index.fields.items():
            for term, times in terms(session, getattr(article, name)).items():
                total[term] += weight * times  # type: ignore[assignment]
        documents[article.id] = total
    return oracles.bm25(terms(session, query), documents, k1=bm25.k1, b=bm25.b)


def terms(session: Session, text: str | None) -> Counter[str]:
    counted: Counter[str] = Counter()
    if text is not None:
        for row in session.execute(select(terms_of(cast(literal("english"), REGCONFIG), literal(text, Text)))):
            counted[row.term] += row.frequency
    return counted


@pytest.mark.parametrize("query", QUERIES)
def test_scores_equal_the_formula(session: Session, shop: Any, query: str) -> None:
    wanted = expected(session, shop, query)
    found = scores(session, shop, query)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert list(found) == oracles.best(wanted, 100)


@pytest.mark.parametrize(
    "options", [{"fields": {"title": 2.5, "body": 1.0}}, {"bm25": BM25(k1=0.9, b=0.4)}, {"bm25": BM25(b=0)}], ids=str
)
def test_field_weights_and_parameters_are_those_of_the_declaration(
    engine: Engine, session: Session, kind: str, options: dict[str, Any]
) -> None:
    shop = filled(engine, kind, **options)
    for query in ("red", "oak oak red", "blue books"):
        assert scores(session, shop, query) == pytest.approx(expected(session, shop, query), rel=1e-6)


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


def test_an_index_keeps_the_tables_of_its_engine_alone(session: Session, shop: Any, kind: str) -> None:
    parts = {table.name.removeprefix("article_") for table in shop.index.tables}
    wanted = {"sql": {"term", "posting", "pending", "statistics"}, "memory": set()}[kind]
    assert {"document", "chunk"} | wanted == parts
    found = status(session, shop.index)
    assert found.documents == len(ROWS)
    assert bool(found.terms) == (kind == "sql")


def test_rows_of_the_own_transaction_are_ranked_by_the_memory_engine_at_once(engine: Engine, session: Session) -> None:
    shop = filled(engine, "memory")
    session.execute(insert(shop.Article), [{"id": 9, "title": "A bench", "body": None}])
    assert set(scores(session, shop, "bench")) == {9}
    with Session(engine) as other:
        assert scores(other, shop, "bench") == {}
    session.rollback()
    assert scores(session, shop, "bench") == {}


def test_the_memory_engine_analyses_again_what_has_changed_alone(engine: Engine, session: Session) -> None:
    shop = filled(engine, "memory")
    analysed: list[list[str]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: dict[str, Any], *rest: Any) -> None:
        if "hybridsearch.terms" in statement:
            analysed.extend(value for value in parameters.values() if isinstance(value, list) and "Red" in str(value))

    scores(session, shop, "oak")
    scores(session, shop, "blue")
    assert [len(texts) for texts in analysed] == [15]
    session.execute(update(shop.Article).where(shop.Article.id == 2).values(title="Red table"))
    found = scores(session, shop, "oak")
    assert analysed[1:] == [["Red table"]]
    assert found == pytest.approx(expected(session, shop, "oak"), rel=1e-6)


def test_the_memory_engine_refuses_a_large_table(engine: Engine, session: Session) -> None:
    shop = articles(engine="memory")
    shop.Base.metadata.create_all(engine)
    number = func.generate_series(1, MAX_DOCUMENTS + 1).column_valued("number")
    session.execute(insert(shop.Article).from_select(["id", "title"], select(number, literal("red"))))
    with pytest.raises(QueryError, match='"article" has 10,001 documents, engine "memory" takes 10,000: declare'):
        scores(session, shop, "red")


def test_the_memory_engine_needs_a_session(engine: Engine, session: Session) -> None:
    shop = filled(engine, "memory")
    search = HybridSearch(shop.index)
    with pytest.raises(QueryError, match="has to read its rows first"):
        search.select("red chair")
    query = search.read(session, search.encode("red chair"))
    assert session.execute(search.select(query, legs=["lexical"])).first()[0] == 1


def test_okapi_is_what_rank_bm25_makes_of_the_words(engine: Engine, session: Session) -> None:
    shop = filled(engine, "memory", bm25=BM25(k1=1.5, idf="okapi"))
    words = {
        article.id: [*terms(session, article.title).elements(), *terms(session, article.body).elements()]
        for article in session.scalars(select(shop.Article))
    }
    ranker = BM25Okapi(list(words.values()))
    for query in QUERIES:
        asked = terms(session, query)
        wanted = dict(zip(words, ranker.get_scores([*asked.elements()]), strict=True))
        having = {key: score for key, score in wanted.items() if asked.keys() & set(words[key])}
        assert scores(session, shop, query) == pytest.approx(having, rel=1e-6)


def test_an_engine_that_there_is_not_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no engine is called 'lucene'; there are sql, memory"):
        articles(engine="lucene")
    with pytest.raises(DeclarationError, match="BM25 idf is 'tf'"):
        BM25(idf="tf")  # type: ignore[arg-type]
