"""How the lexical leg goes about a filter: a look at few or many of the best, or told what passes; always exact."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, Select, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from hybridsearch import HybridSearch, Query
from hybridsearch.lexical import lexical
from hybridsearch.sampling import share_of
from tests.support import oracles
from tests.support.models import articles
from tests.support.shelf import built, put

ROWS = 12_000
ASKED = Query("red oak")
CANDIDATES = 10


@pytest.fixture(scope="module")
def shop(shared_engine: Engine) -> SimpleNamespace:
    """Titles with "red" one to seven times: the more, the better; every fourth row has "oak", too."""
    shop = articles()
    shop.Base.metadata.create_all(shared_engine)
    rows = [
        {"id": n, "title": "red " * (1 + n % 7) + f"w{n % 50}", "body": None if n % 4 else "oak"}
        for n in range(1, ROWS + 1)
    ]
    with Session(shared_engine) as session:
        session.execute(insert(shop.Article), rows)
        built(session, shop)
        session.execute(delete(shop.index.changes))
        session.commit()
        session.execute(text("analyze"))
        session.commit()
    return shop


@pytest.fixture
def session(shared_engine: Engine) -> Any:
    with Session(shared_engine) as session:
        yield session
        session.rollback()


def ranked(shop: SimpleNamespace, where: Any) -> Select[Any]:
    search = HybridSearch(shop.index)
    return search.select(ASKED, legs=["lexical"], fusion="leg", limit=CANDIDATES, candidates=CANDIDATES, where=where)


def looks(session: Session, statement: Select[Any]) -> set[str]:
    """Which parts of the leg the statement ran: first, second, told."""
    compiled = statement.compile(dialect=postgresql.psycopg.dialect(), compile_kwargs={"render_postcompile": True})
    cursor = session.connection().connection.driver_connection.cursor()  # type: ignore[union-attr]
    cursor.execute(f"explain (analyze, costs off, timing off) {compiled}", compiled.params)
    lines = [line for (line,) in cursor.fetchall()]
    calls = [(at, line) for at, line in enumerate(lines) if re.search("Function Scan on .*_best", line)]
    assert len(calls) == 3
    ran = ["never executed" not in line for _, line in calls]
    return {name for name, was in zip(("first", "second", "told"), ran, strict=True) if was}


MANY: dict[str, tuple[Callable[[Any], Any], set[str]]] = {
    "as many of the best pass as of all": (lambda article: article.id % 5 > 0, {"first"}),
    "fewer of the best pass": (lambda article: (article.id % 40 == 0) | (article.id % 4 == 1), {"first", "second"}),
    "none of the best passes": (lambda article: article.id % 4 == 1, {"first", "told"}),
    "few pass": (lambda article: article.id % 100 == 0, {"told"}),
    "none passes": (lambda article: article.id < 0, {"told"}),
}


@pytest.mark.parametrize("name", MANY)
def test_the_best_that_pass_are_found_in_each_way(shop: SimpleNamespace, session: Session, name: str) -> None:
    condition, expected = MANY[name]
    statement = ranked(shop, condition(shop.Article))
    assert looks(session, statement) == expected
    check(shop, session, condition(shop.Article))


def check(shop: SimpleNamespace, session: Session, where: Any) -> None:
    """The best that pass are those of all scores, of which those that do not pass are struck out."""
    every = session.execute(lexical(shop.index, ASKED.text or "", candidates=2 * ROWS)).all()
    passing = set(session.scalars(select(shop.Article.id).where(where)))
    scores = {row.article_id: -row.distance for row in every if row.article_id in passing}
    best = oracles.best(scores, CANDIDATES)
    found = session.execute(ranked(shop, where)).all()
    assert [row.article_id for row in found] == best
    assert [row.score for row in found] == pytest.approx([scores[key] for key in best], rel=1e-9)


@pytest.mark.parametrize("name", MANY)
def test_rows_that_changed_are_found_in_each_way(shop: SimpleNamespace, session: Session, name: str) -> None:
    """Before their words are indexed: one that was among the best, one that is now, one that is new."""
    where = MANY[name][0](shop.Article)
    passing = list(session.scalars(select(shop.Article.id).where(where).order_by(shop.Article.id)))
    for key, title in ((passing[-1], "red oak"), (passing[0], "nothing")) if passing else ():
        session.execute(update(shop.Article).where(shop.Article.id == key).values(title=title, body=None))
    session.execute(
        insert(shop.Article), [{"id": ROWS + n, "title": "red oak oak", "body": None} for n in range(1, 101)]
    )
    check(shop, session, where)


@pytest.mark.parametrize("name", MANY)
def test_rows_that_are_not_merged_are_found_in_each_way(shop: SimpleNamespace, session: Session, name: str) -> None:
    where = MANY[name][0](shop.Article)
    put(session, shop, [{"id": ROWS + n, "title": "red " * (n % 9), "body": "oak oak"} for n in range(1, 101)])
    check(shop, session, where)


def test_the_sample_tells_the_share(shop: SimpleNamespace, session: Session) -> None:
    for share in (2, 4, 10, 100):
        statement = select(share_of(shop.index, shop.Article.id % share == 0).c.share)
        assert session.scalar(statement) == pytest.approx(1 / share, abs=0.1)


def test_a_sample_of_nothing_tells_nothing(engine: Engine, session: Session) -> None:
    shop = articles()
    shop.Base.metadata.create_all(engine)
    with Session(engine) as own:
        assert own.scalar(select(share_of(shop.index, shop.Article.id > 0).c.share)) is None
        assert own.execute(ranked(shop, shop.Article.id > 0)).all() == []
