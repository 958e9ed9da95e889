"""Snippets of hits: the words that the query matched, by the analysis of the index."""

from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert
from sqlalchemy.orm import Session

from hybridsearch import Highlight, HybridSearch, Query, QueryError
from hybridsearch.backfill import backfill
from tests.support.models import articles

ROWS = [
    ("Red chairs", "Sitting on <b>comfortable</b> chairs, painted in reds."),
    ("向量数据库与全文检索", "PostgreSQL全文検索"),
    ("HP DV7-1211ea", "A laptop & a bag."),
    ("Long", "filler " * 300 + "needle in a haystack " + "filler " * 300),
    ("Garden", None),
]


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles(title="title")
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        rows = [{"id": n, "title": title, "body": body} for n, (title, body) in enumerate(ROWS, 1)]
        session.execute(insert(shop.Article), rows)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def snippet(shop: SimpleNamespace, session: Session, query: Any, key: int, **options: Any) -> str:
    options.setdefault("snippet", True)
    hits = shop.search.search(session, query, where=shop.Article.id == key, **options)
    return str(hits[0].snippet)


CASES = [
    ("chair", 1, "Sitting on &lt;b&gt;comfortable&lt;/b&gt; <mark>chairs</mark>, painted in reds."),
    ("SIT -blue", 1, "<mark>Sitting</mark> on &lt;b&gt;comfortable&lt;/b&gt; chairs, painted in reds."),
    ('"comfortable"', 1, "Sitting on &lt;b&gt;<mark>comfortable</mark>&lt;/b&gt; chairs, painted in reds."),
    ("comfort*", 1, "Sitting on &lt;b&gt;<mark>comfortable</mark>&lt;/b&gt; chairs, painted in reds."),
    ("検索", 2, "PostgreSQL全文<mark>検索</mark>"),
    ("数据库", 2, "向量<mark>数据库</mark>与全文检索"),  # in the title alone
    ("dv7-1211EA", 3, "HP <mark>DV7-1211ea</mark>"),
    ("unheard", 3, "A laptop &amp; a bag."),
    ("the of", 3, "A laptop &amp; a bag."),
    ("garden", 5, "<mark>Garden</mark>"),
]


@pytest.mark.parametrize("legs", [None, ["dense"]])
def test_what_the_query_matched_is_marked(shop: SimpleNamespace, session: Session, legs: list[str] | None) -> None:
    for query, key, expected in CASES:
        assert snippet(shop, session, query, key, legs=legs) == expected


def test_it_comes_from_where_the_match_is_in_a_long_text(shop: SimpleNamespace, session: Session) -> None:
    style = Highlight(length=60, fragments=1, before="«", after="»", separator="...")
    found = snippet(shop, session, "needles", 4, snippet=style)
    assert "«needle» in a haystack" in found
    assert found.startswith("...filler ")
    assert found.endswith(" filler...")
    assert snippet(shop, session, "needles", 4, snippet=style, legs=["lexical"]) == found


def test_a_document_without_vectors_has_a_snippet_of_its_fields(shop: SimpleNamespace, session: Session) -> None:
    session.execute(delete(shop.index.chunks))
    assert snippet(shop, session, "laptop", 3) == "A <mark>laptop</mark> &amp; a bag."


def test_a_query_by_vector_alone_shows_the_beginning(shop: SimpleNamespace, session: Session) -> None:
    vector = shop.search.encode("laptop").dense
    assert snippet(shop, session, Query(dense=vector), 3) == "A laptop &amp; a bag."


def test_there_is_none_unless_asked_for(shop: SimpleNamespace, session: Session) -> None:
    assert all(hit.snippet is None for hit in shop.search.search(session, "chair"))
    with pytest.raises(QueryError, match="snippet is 'yes': give True, False or a Highlight"):
        shop.search.search(session, "chair", snippet="yes")


@given(text=st.text(min_size=1, max_size=80), query=st.text(min_size=1, max_size=20).filter(str.strip))
@settings(max_examples=60)
def test_no_text_gets_a_tag_onto_the_page(shop: SimpleNamespace, session: Session, text: str, query: str) -> None:
    text, query = (part.encode("utf-8", "ignore").decode().replace("\0", "") or "x" for part in (text, query))
    article = session.get_one(shop.Article, 5)
    article.title, article.body = f"<i>{text}", f"<script>{text} {query}</script>"
    session.flush()
    if not query.strip():
        return
    style = Highlight(before="\ue000", after="\ue001")
    asked = shop.search.encode(f"{query} script", syntax="plain")  # -word would leave the document out
    (hit,) = shop.search.search(session, asked, where=shop.Article.id == 5, snippet=style)
    for fragment in hit.snippet.fragments:
        assert not set(fragment) & set("<>\"'")
        plain = unescape(fragment.replace("\ue000", "").replace("\ue001", ""))
        assert any(plain in source for source in (article.title, article.body, hit.chunk.text))
