"""Pages of one ranking: nothing comes twice, nothing is skipped, whatever is written between them."""

import asyncio
import base64
import hmac
import json
import zlib
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Engine, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from hybridsearch import Boost, HybridSearch, Query, QueryError, Settings
from hybridsearch.backfill import backfill
from hybridsearch.cursor import SIGNATURE
from tests.support.keyed import SHAPES, Shape, declare
from tests.support.models import articles

COLOURS = ("red", "blue", "green", "oak")
ROWS = [{"id": n, "title": f"{COLOURS[n % 4]} chair", "body": f"number {n}"} for n in range(1, 61)]


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles()
    shop.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.execute(insert(shop.Article), ROWS)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def pages(session: Session, search: HybridSearch, text: Any, **options: Any) -> list[Any]:
    """All pages of a query."""
    found = [search.page(session, text, **options)]
    while found[-1].next:
        found.append(search.page(session, text, after=found[-1].next, **options))
    return found


def ids(page: Any) -> list[int]:
    return [hit.document.id for hit in page]


@pytest.mark.parametrize("fusion", ["rrf", "minmax", "zscore"])
@pytest.mark.parametrize("limit", [1, 7, 60, 100])
def test_the_pages_are_the_list(shop: SimpleNamespace, session: Session, limit: int, fusion: Any) -> None:
    whole = shop.search.search(session, "red chair", limit=100, fusion=fusion)
    found = pages(session, shop.search, "red chair", limit=limit, candidates=100, fusion=fusion)
    assert [hit.document.id for page in found for hit in page] == ids(whole)
    assert [hit.score for page in found for hit in page] == [hit.score for hit in whole]
    assert [hit.ranks for page in found for hit in page] == [hit.ranks for hit in whole]
    assert [hit.chunk.text for page in found for hit in page] == [hit.chunk.text for hit in whole]
    assert {(page.total, page.exact) for page in found} == {(60, True)}


def test_a_total_is_a_bound_where_a_leg_has_more(shop: SimpleNamespace, session: Session) -> None:
    page = shop.search.page(session, "red chair", limit=5, candidates=20)
    assert not page.exact
    assert 20 <= page.total <= 40
    lexical = shop.search.page(session, "green", limit=5, legs=["lexical"])
    assert (lexical.total, lexical.exact) == (15, True)


def test_writes_between_pages_neither_repeat_nor_skip(shop: SimpleNamespace, engine: Engine, session: Session) -> None:
    expected = ids(shop.search.search(session, "red chair", limit=60))
    first = shop.search.page(session, "red chair", limit=20, candidates=100)
    gone, changed = expected[25], expected[30]
    with Session(engine) as other, other.begin():
        other.execute(delete(shop.Article).where(shop.Article.id == gone))
        other.execute(update(shop.Article).where(shop.Article.id == changed).values(title="blue sofa"))
        other.execute(insert(shop.Article), [{"id": n, "title": "red chair", "body": None} for n in range(900, 930)])
    backfill(engine, shop.index)
    session.rollback()
    found = [first]
    while found[-1].next:
        found.append(shop.search.page(session, "red chair", limit=20, candidates=100, after=found[-1].next))
    assert [key for page in found for key in ids(page)] == [key for key in expected if key != gone]


def test_a_filter_holds_on_every_page(shop: SimpleNamespace, session: Session) -> None:
    where = shop.Article.title.like("red%")
    first = shop.search.page(session, "chair", limit=5, where=where)
    whole = ids(shop.search.search(session, "chair", where=where, limit=15))
    moved = next(key for key in whole if key not in ids(first))
    session.execute(update(shop.Article).where(shop.Article.id == moved).values(title="blue"))
    second = shop.search.page(session, "chair", limit=5, where=where, after=first.next)
    assert moved not in ids(second)
    assert len(second) == 4


def test_a_page_may_have_another_limit(shop: SimpleNamespace, session: Session) -> None:
    whole = ids(shop.search.search(session, "red chair", limit=40))
    first = shop.search.page(session, "red chair", limit=10, candidates=60)
    second = shop.search.page(session, "red chair", limit=30, candidates=60, after=first.next)
    assert ids(first) + ids(second) == whole


def test_boosts_order_the_pages(shop: SimpleNamespace, session: Session) -> None:
    boosts = {"id": Boost(shop.Article.id, 1.0)}
    whole = shop.search.search(session, "red chair", limit=60, boosts=boosts)
    found = pages(session, shop.search, "red chair", limit=25, candidates=60, boosts=boosts)
    assert [hit.document.id for page in found for hit in page] == ids(whole)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_keys_of_every_shape(engine: Engine, session: Session, shape: Shape) -> None:
    declared = declare(shape)
    if shape.schema:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'create schema "{shape.schema}"')
    declared.Base.metadata.create_all(engine)
    session.add_all(declared.rows())
    session.commit()
    backfill(engine, declared.index)
    search = HybridSearch(declared.index)
    found = pages(session, search, "red chair", limit=2)
    whole = [declared.key(hit.document) for hit in search.search(session, "red chair")]
    assert [declared.key(hit.document) for page in found for hit in page] == whole
    assert len(whole) > 4


@pytest.mark.parametrize("driver", ["postgresql+psycopg", "postgresql+asyncpg"])
def test_async_pages_are_the_same(shop: SimpleNamespace, session: Session, database: URL, driver: str) -> None:
    async def main() -> list[int]:
        engine = create_async_engine(database.set(drivername=driver))
        try:
            async with AsyncSession(engine) as opened:
                first = await shop.search.page_async(opened, "red chair", limit=7)
                second = await shop.search.page_async(opened, "red chair", limit=7, after=first.next)
                return ids(first) + ids(second)
        finally:
            await engine.dispose()

    assert asyncio.run(main()) == ids(shop.search.search(session, "red chair", limit=14))


# A cursor is of one query, and as it was given


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("blue chair", {}),
        (Query("red chair"), {}),
        ("red chair", {"legs": ["lexical"]}),
        ("red chair", {"fusion": "minmax"}),
        ("red chair", {"weights": {"dense": 2}}),
        ("red chair", {"candidates": 50}),
        ("red chair", {"where": "id > 1"}),
        ("red chair", {"boosts": "id"}),
    ],
    ids=str,
)
def test_a_cursor_of_another_query_is_refused(
    shop: SimpleNamespace, session: Session, text: Any, options: dict[str, Any]
) -> None:
    after = shop.search.page(session, "red chair", limit=5).next
    given = {"where": {"where": shop.Article.id > 1}, "boosts": {"boosts": {"id": shop.Article.id}}}
    for name in given.keys() & options.keys():
        options = given[name]
    with pytest.raises(QueryError, match="this cursor is of another query, or of other options"):
        shop.search.page(session, text, limit=5, after=after, **options)


def test_a_condition_of_another_value_is_another_query(shop: SimpleNamespace, session: Session) -> None:
    after = shop.search.page(session, "red chair", limit=5, where=shop.Article.id > 1).next
    assert shop.search.page(session, "red chair", limit=5, where=shop.Article.id > 1, after=after)
    with pytest.raises(QueryError, match="of another query"):
        shop.search.page(session, "red chair", limit=5, where=shop.Article.id > 2, after=after)


def test_a_cursor_of_another_secret_is_refused(shop: SimpleNamespace, session: Session) -> None:
    after = shop.search.page(session, "red chair", limit=5).next
    other = HybridSearch(shop.index, settings=Settings(cursor_secret="another"))
    with pytest.raises(QueryError, match="this is no cursor of ours, or it was changed"):
        other.page(session, "red chair", limit=5, after=after)


@pytest.mark.parametrize("after", ["", "x", "ä", "=", "A" * 1000, "A" * 300_000, b"abc", 17, [], "\0", "\ud800"])
def test_what_is_no_cursor_is_refused(shop: SimpleNamespace, session: Session, after: Any) -> None:
    with pytest.raises(QueryError, match="this is no cursor of ours, or it was changed"):
        shop.search.page(session, "red chair", after=after)


@settings(max_examples=80)
@given(data=st.data())
def test_a_changed_cursor_is_refused(shop: SimpleNamespace, session: Session, data: st.DataObject) -> None:
    after = shop.search.page(session, "red chair", limit=5).next
    raw = bytearray(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    with pytest.raises(QueryError, match="this is no cursor of ours, or it was changed"):
        shop.search.page(session, "red chair", after=changed)


@pytest.mark.parametrize("written", ["text", "values", "exists"])
def test_a_condition_of_any_kind_is_the_same_query_again(shop: SimpleNamespace, session: Session, written: str) -> None:
    def where(least: int) -> Any:
        """Made anew, as each request does."""
        return {
            "text": text(f"article.id > {least}"),
            "values": text("article.id > :least").bindparams(least=least),
            "exists": select(shop.Article.id).where(shop.Article.id > least).exists(),
        }[written]

    first = shop.search.page(session, "red chair", limit=5, where=where(9))
    second = shop.search.page(session, "red chair", limit=5, where=where(9), after=first.next)
    assert len({*ids(first), *ids(second)}) == 10
    with pytest.raises(QueryError, match="of another query"):
        shop.search.page(session, "red chair", limit=5, where=where(8), after=first.next)


# The default secret is public: whoever knows it may sign what he likes


def content_of(after: str) -> list[Any]:
    raw = base64.urlsafe_b64decode(after + "=" * (-len(after) % 4))
    return json.loads(zlib.decompress(raw[SIGNATURE:]))


def forged(content: Any) -> str:
    packed = zlib.compress(json.dumps(content).encode())
    signature = hmac.digest(Settings().cursor_secret.encode(), packed, "sha256")[:SIGNATURE]
    return base64.urlsafe_b64encode(signature + packed).decode().rstrip("=")


def test_what_is_signed_by_hand_is_read(shop: SimpleNamespace, session: Session) -> None:
    after = shop.search.page(session, "red chair", limit=5).next
    again = shop.search.page(session, "red chair", limit=5, after=forged(content_of(after)))
    assert ids(again) == ids(shop.search.page(session, "red chair", limit=5, after=after))


ENTRY = [["7"], 0.5, [1, None]]


@pytest.mark.parametrize(
    "entry",
    [
        [["x"], 0.5, [1, 1]], [["99999999999"], 0.5, [1, 1]], [[7], 0.5, [1, 1]], [[], 0.5, [1, 1]],
        [["7", "8"], 0.5, [1, 1]], ["7", 0.5, [1, 1]], [[None], 0.5, [1, 1]], [["7\0"], 0.5, [1, 1]],
        [["\ud800"], 0.5, [1, 1]], [["7"], float("nan"), [1, 1]], [["7"], float("inf"), [1, 1]],
        [["7"], 10**400, [1, 1]], [["7"], "0.5", [1, 1]], [["7"], None, [1, 1]], [["7"], True, [1, 1]],
        [["7"], 0.5, [1]], [["7"], 0.5, []], [["7"], 0.5, [1, 1, 1]], [["7"], 0.5, [0, 1]], [["7"], 0.5, [2**31, 1]],
        [["7"], 0.5, ["1", 1]], [["7"], 0.5, [True, 1]], [["7"], 0.5, 1], [["7"], 0.5], [], None, 7, {},
    ],
    ids=repr,
)  # fmt: skip
def test_a_forged_entry_is_refused(shop: SimpleNamespace, session: Session, entry: Any) -> None:
    content = content_of(shop.search.page(session, "red chair", limit=5).next)
    for entries in ([entry], [ENTRY, entry]):
        content[-1] = entries
        with pytest.raises(QueryError, match="this is no cursor of ours, or it was changed"):
            shop.search.page(session, "red chair", after=forged(content))
    content[-1] = [ENTRY]
    assert ids(shop.search.page(session, "red chair", after=forged(content))) == [7]  # the transaction goes on


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, []), (1, ["dense", "dense"]), (1, ["sparse", "lexical"]), (1, ["dense", "x\"y"]), (1, "dense"),
        (1, [["dense"], "lexical"]), (1, None), (2, -1), (2, 0), (2, "5"), (2, 1e9), (2, True), (3, 1), (3, None),
        (4, 7), (4, {}), (0, None), (0, ["x"]), (0, 7),
    ],
    ids=repr,
)  # fmt: skip
def test_a_forged_list_is_refused(shop: SimpleNamespace, session: Session, place: int, value: Any) -> None:
    content = content_of(shop.search.page(session, "red chair", limit=5).next)
    content[place] = value
    with pytest.raises(QueryError, match=r"this is no cursor of ours|this cursor is of another query"):
        shop.search.page(session, "red chair", after=forged(content))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@settings(max_examples=80)
@given(data=st.data())
def test_whatever_is_forged_is_a_page_or_an_error_of_ours(
    shop: SimpleNamespace, session: Session, data: st.DataObject
) -> None:
    content = content_of(shop.search.page(session, "red chair", limit=5).next)
    content[-1] = data.draw(
        st.lists(st.tuples(st.lists(json_values, max_size=2), json_values, json_values) | json_values)
    )
    with suppress(QueryError):
        assert shop.search.page(session, "red chair", after=forged(content)) == []


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_forged_keys_of_every_shape(engine: Engine, session: Session, shape: Shape) -> None:
    declared = declare(shape)
    if shape.schema:
        with engine.begin() as connection:
            connection.exec_driver_sql(f'create schema "{shape.schema}"')
    declared.Base.metadata.create_all(engine)
    session.add_all(declared.rows())
    session.commit()
    backfill(engine, declared.index)
    search = HybridSearch(declared.index)
    content = content_of(search.page(session, "red chair", limit=1).next)
    content[-1] = [[["no such key"] * len(shape.columns), 0.5, [1, 1]]]
    if shape.name == "text":
        assert search.page(session, "red chair", after=forged(content)) == []
    else:
        with pytest.raises(QueryError, match="this is no cursor of ours"):
            search.page(session, "red chair", after=forged(content))


def test_a_cursor_is_short_enough_for_an_address(shop: SimpleNamespace, session: Session) -> None:
    page = shop.search.page(session, "red chair", limit=5, candidates=100)
    assert page.total == 60
    assert len(page.next) < 2000
