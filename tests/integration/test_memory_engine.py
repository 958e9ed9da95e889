"""The memory engine's own: how fresh it is, what it reads again, what it refuses, Okapi's idf."""

from collections import Counter
from typing import Any

import pytest
from rank_bm25 import BM25Okapi
from sqlalchemy import Engine, event, func, insert, literal, select, update
from sqlalchemy.orm import Session

from hybridsearch import BM25, DeclarationError, HybridSearch, QueryError
from hybridsearch.engines.memory import MAX_DOCUMENTS
from hybridsearch.segmentation import jieba_words
from tests.support import oracles
from tests.support.models import articles
from tests.support.ranked import QUERIES, filled, scores, terms, words_of


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
    assert found == pytest.approx(oracles.bm25(terms(session, "oak"), words_of(session, shop)), rel=1e-6)


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
    with pytest.raises(DeclarationError, match="no engine is called 'lucene'; there are sql, memory, pg_textsearch"):
        articles(engine="lucene")
    with pytest.raises(DeclarationError, match="BM25 idf is 'tf'"):
        BM25(idf="tf")  # type: ignore[arg-type]


def test_chinese_is_cut_by_jieba_where_the_index_has_it_as_its_segmenter(engine: Engine, session: Session) -> None:
    shop = articles(engine="memory", segmenter=jieba_words, fields={"title": 2.0, "body": 1.0})
    shop.Base.metadata.create_all(engine)
    rows = [{"id": 1, "title": "红色的椅子", "body": "橡木 oak chairs"}, {"id": 2, "title": "色的", "body": "椅子"}]
    session.execute(insert(shop.Article), rows)
    assert set(scores(session, shop, "椅子")) == {1, 2}
    assert set(scores(session, shop, "红色")) == {1}
    found = scores(session, shop, "椅子 chair")
    counts = {1: dict.fromkeys(jieba_words("红色的椅子"), 2.0) | {"橡木": 1.0, "oak": 1.0, "chair": 1.0}}
    counts[2] = dict.fromkeys(jieba_words("色的"), 2.0) | {"椅子": 1.0}
    assert found == pytest.approx(oracles.bm25(Counter(["椅子", "chair"]), counts), rel=1e-6)
