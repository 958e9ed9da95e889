"""Fusion and boosts against plain Python, over lists that hypothesis makes, on a server."""

import math
import statistics
from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, Float, Integer, Numeric, Select, cast, column, func, literal, null, select, text, values
from sqlalchemy.orm import Session

from hybridsearch import Boost, HybridSearch, QueryError, fuse, popularity, recency
from hybridsearch.backfill import backfill
from hybridsearch.boost import MOST_BOOSTS, boosted, checked_boosts
from hybridsearch.fusion import MOST
from tests.support.models import articles, fill

Legs = Mapping[str, Mapping[int, float]]
on_a_server = settings(max_examples=60)
distances = st.floats(-50, 50) | st.sampled_from([0.0, 0.25, 0.5, -1.0])  # ties are common
lists = st.dictionaries(st.integers(1, 30), distances, max_size=20)
legs_of = st.dictionaries(st.sampled_from(["dense", "lexical", "sparse"]), lists, min_size=1)
weights_of = st.floats(1e-3, 1e3) | st.just(0.0)


def statement(legs: Legs) -> dict[str, Select[Any]]:
    """Lists of distances as legs."""
    made: dict[str, Select[Any]] = {}
    for name, entries in legs.items():
        rows = values(column("id", Integer), column("distance", Float(53)), name=f"given_{name}")
        # A list without entries has a row that is left out: VALUES needs one.
        given = rows.data([*entries.items(), (0, 0.0)])
        made[name] = select(given.c.id, given.c.distance).where(given.c.id > 0)
    return made


def ranked(entries: Mapping[int, float]) -> list[int]:
    return sorted(entries, key=lambda key: (entries[key], key))


def reciprocal(entries: Mapping[int, float], k: float) -> dict[int, float]:
    return {key: 1 / (k + rank) for rank, key in enumerate(ranked(entries), 1)}


def min_max(entries: Mapping[int, float]) -> dict[int, float]:
    low, high = min(entries.values(), default=0), max(entries.values(), default=0)
    return {key: (high - distance) / (high - low) if high > low else 1.0 for key, distance in entries.items()}


def z_score(entries: Mapping[int, float]) -> dict[int, float]:
    scores = {key: -distance for key, distance in entries.items()}
    spread = statistics.stdev(scores.values()) if len(scores) > 1 else 0.0
    if not spread:
        return dict.fromkeys(scores, 0.5)
    low = statistics.fmean(scores.values()) - 3 * spread
    return {key: max(0.0, (score - low) / (6 * spread)) for key, score in scores.items()}


def oracle(legs: Legs, fusion: str, k: float, weights: Mapping[str, float]) -> dict[int, float]:
    whole = 1.0 if fusion == "rrf" else sum(weights.values())
    scores: dict[int, float] = {}
    for name, entries in legs.items():
        shares = reciprocal(entries, k) if fusion == "rrf" else {"minmax": min_max, "zscore": z_score}[fusion](entries)
        for key, share in shares.items():
            scores[key] = scores.get(key, 0.0) + weights[name] / whole * share
    return scores


def nearly_equal(entries: Mapping[int, float]) -> bool:
    """Whether a list's spread is lost in rounding: then so is what is divided by it, in Python as in SQL."""
    found = [*entries.values()]
    return len(set(found)) > 1 and max(found) - min(found) < 1e-3


@on_a_server
@given(legs=legs_of, fusion=st.sampled_from(["rrf", "minmax", "zscore"]), k=st.floats(0, 1000), data=st.data())
def test_every_fusion_is_its_oracle(session: Session, legs: Legs, fusion: Any, k: float, data: st.DataObject) -> None:
    weights = {name: data.draw(weights_of, label=name) for name in legs}
    if not any(weights.values()) or any(nearly_equal(entries) for entries in legs.values()):
        return
    rows = session.execute(fuse(statement(legs), keys=["id"], fusion=fusion, k=k, weights=weights)).all()
    expected = oracle(legs, fusion, k, weights)
    assert {row.id: row.score for row in rows} == pytest.approx(expected, abs=1e-9)
    assert [row.id for row in rows] == sorted(
        (row.id for row in rows), key=lambda key: next((-row.score, row.id) for row in rows if row.id == key)
    )
    for name, entries in legs.items():
        places = {key: rank for rank, key in enumerate(ranked(entries), 1)}
        for row in rows:
            said = row._mapping
            assert said[f"rank_{name}"] == places.get(row.id)
            assert said[f"distance_{name}"] == entries.get(row.id)
            assert (said[f"share_{name}"] is None) == (row.id not in entries)
    for row in rows:
        assert row.score == pytest.approx(math.fsum(row._mapping[f"share_{name}"] or 0.0 for name in legs), abs=1e-12)


@on_a_server
@given(entries=lists)
def test_one_leg_keeps_its_own_scores(session: Session, entries: Mapping[int, float]) -> None:
    rows = session.execute(fuse(statement({"lexical": entries}), keys=["id"], fusion="leg")).all()
    assert [(row.id, row.score) for row in rows] == [(key, -entries[key]) for key in ranked(entries)]


def test_one_leg_is_one(session: Session) -> None:
    with pytest.raises(QueryError, match='fusion "leg" takes one leg, there are dense, lexical'):
        fuse(statement({"dense": {}, "lexical": {}}), keys=["id"], fusion="leg")


@pytest.mark.parametrize("fusion", ["sum", "RRF", None, 3, ["rrf"]])
def test_an_unknown_way_to_fuse_is_answered_with_the_ways(fusion: Any) -> None:
    with pytest.raises(QueryError, match="give rrf, minmax, zscore, leg"):
        fuse(statement({"dense": {}}), keys=["id"], fusion=fusion)


# Boosts


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    shop = articles()
    fill(engine, shop)
    backfill(engine, shop.index)
    shop.search = HybridSearch(shop.index)
    return shop


def raised(session: Session, shop: SimpleNamespace, scores: Mapping[int, float], boosts: Any) -> list[Any]:
    given = values(column("article_id", Integer), column("score", Float(53)), name="given").data([*scores.items()])
    ranking = select(given.c.article_id, given.c.score, (given.c.score / 2).label("share_dense"))
    return list(session.execute(boosted(shop.index, ranking, checked_boosts(shop.index, boosts))).all())


factor_values = st.floats(0, 1e7) | st.floats(allow_nan=True, allow_infinity=True) | st.none()


@on_a_server
@given(
    scores=st.dictionaries(st.integers(1, 4), st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1),
    value=factor_values,
    other=st.floats(0, 5),
    weight=st.floats(1e-3, 1e3) | st.just(0.0),
)
def test_boosts_are_their_oracle(
    shop: SimpleNamespace, session: Session, scores: Any, value: float | None, other: float, weight: float
) -> None:
    shown = cast(null() if value is None else literal(value, Float(53)), Float(53))
    boosts = {"first": Boost(shown * cast(shop.Article.id, Float(53)), weight), "second": Boost(literal(other))}
    factors = {}
    for key in scores:
        wanted = value * key if value is not None and value * key > 0 else 0.0
        factors[key] = (1 + weight * min(wanted, 1e6)) * (1 + other)
    rows = raised(session, shop, scores, boosts)
    expected = {key: score * factors[key] if score >= 0 else score / factors[key] for key, score in scores.items()}
    assert {row.article_id: row.score for row in rows} == pytest.approx(expected, rel=1e-9)
    for row in rows:
        assert row.fused == scores[row.article_id]
        assert row.boost_first * row.boost_second == pytest.approx(factors[row.article_id], rel=1e-9)


@on_a_server
@given(data=st.data(), weight=st.floats(1e-3, 100))
def test_a_higher_value_never_lowers_and_a_higher_score_never_falls_behind(
    shop: SimpleNamespace, session: Session, data: st.DataObject, weight: float
) -> None:
    low, high = sorted(data.draw(st.tuples(*[st.floats(0, 1e6)] * 2), label="values"))
    worse, better = sorted(data.draw(st.tuples(*[st.floats(-1, 1)] * 2), label="scores"))
    tiny = [abs(score) for score in (worse, better) if score]
    if tiny and min(tiny) < 1e-6:
        return

    def score(fused: float, value: float) -> float:
        (row,) = raised(session, shop, {1: fused}, {"value": Boost(literal(value, Float(53)), weight)})
        return float(row.score)

    assert score(worse, low) <= score(worse, high)
    assert score(worse, low) <= score(better, low)


def test_recency_halves_with_each_half_life(session: Session) -> None:
    half_life = timedelta(days=10)
    ages = {"0 days": 1.0, "10 days": 0.5, "20 days": 0.25, "-5 days": 1.0, "20000 days": 0.5**1000}
    for age, expected in ages.items():
        published = func.now() - func.make_interval(0, 0, 0, int(age.split()[0]))
        assert session.scalar(select(recency(published, half_life=half_life))) == pytest.approx(expected, rel=1e-6)
    for never in ("infinity", "-infinity"):
        assert session.scalar(select(recency(text(f"'{never}'::timestamptz"), half_life=half_life))) is None
    assert session.scalar(select(recency(text("null::timestamptz"), half_life=half_life))) is None
    assert session.scalar(select(recency(func.current_date(), half_life=half_life))) > 0.9


def test_popularity_is_a_half_at_its_half(session: Session) -> None:
    for count, expected in {0: 0.0, 50: 0.5, 150: 0.75, -3: 0.0, math.inf: 1.0, -math.inf: 0.0, None: 0.0}.items():
        shown = cast(null() if count is None else literal(float(count), Float(53)), Float(53))
        assert session.scalar(select(popularity(shown, half=50))) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [Float(53), Numeric()], ids=str)
def test_what_is_no_number_is_not_popular(session: Session, kind: Any) -> None:
    assert session.scalar(select(popularity(cast(literal("NaN"), kind), half=50))) == 0.0


@pytest.mark.parametrize("score", [1e6, -1e-6])
def test_the_largest_boosts_together_are_a_number(shop: SimpleNamespace, session: Session, score: float) -> None:
    boosts = {f"b{n}": Boost(literal(1e9), MOST) for n in range(MOST_BOOSTS)}
    (row,) = raised(session, shop, {1: score}, boosts)
    assert 0 < abs(row.score) < math.inf


def test_boosts_reorder_a_search_and_are_told(shop: SimpleNamespace, session: Session) -> None:
    plain = shop.search.search(session, "red chair")
    last = plain[-1].document
    liked = Boost(func.coalesce(shop.Article.id == last.id, False).cast(Integer), weight=10.0)
    hits = shop.search.search(session, "red chair", boosts={"liked": liked, "id": shop.Article.id})
    assert hits[0].document is last
    for hit in hits:
        assert set(hit.boosts) == {"liked", "id"}
        fused = math.fsum(hit.shares.values())
        assert hit.score == pytest.approx(fused * math.prod(hit.boosts.values()), abs=1e-12)
        assert hit.boosts["id"] == 1 + hit.document.id
    assert {hit.document.id: hit.shares for hit in plain} == {hit.document.id: hit.shares for hit in hits}


@pytest.mark.parametrize(
    ("boosts", "said"),
    [
        ([], r"boosts is \[\]: give a mapping"),
        ({"a b": 1}, "a boost is called 'a b'"),
        ({3: 1}, "a boost is called 3"),
        ({"x" * 41: 1}, "a boost is called"),
        ({f"b{n}": literal(1) for n in range(17)}, "there are 17 boosts: give at most 16"),
        ({"x": "views"}, "boost 'x' is 'views': give a SQLAlchemy expression on Article"),
        ({"x": Boost(literal(1), -1)}, "weight -1 of boost 'x'"),
        ({"x": Boost(literal(1), float("nan"))}, "weight nan of boost 'x'"),
        ({"x": Boost(literal(1), 1e300)}, r"weight 1e\+300 of boost 'x'"),
    ],
)
def test_what_raises_nothing_is_refused(shop: SimpleNamespace, session: Session, boosts: Any, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        shop.search.search(session, "red chair", boosts=boosts)


def test_a_boost_from_another_table_is_refused(shop: SimpleNamespace, session: Session) -> None:
    with pytest.raises(QueryError, match="boost 'x' is about 'article_chunk', which is not the table of Article"):
        shop.search.search(session, "red chair", boosts={"x": shop.index.Chunk.ordinal})


@pytest.mark.parametrize("fusion", ["rrf", "minmax", "zscore"])
def test_a_search_fuses_as_it_is_told(shop: SimpleNamespace, session: Session, fusion: str) -> None:
    hits = shop.search.search(session, "red oak chair", fusion=fusion, weights={"dense": 2}, rrf_k=5)
    legs = {
        name: {hit.document.id: hit.distances[name] for hit in hits if name in hit.distances}
        for name in ("dense", "lexical")
    }
    expected = oracle(legs, fusion, 5, {"dense": 2.0, "lexical": 1.0})
    assert {hit.document.id: hit.score for hit in hits} == pytest.approx(expected, abs=1e-9)


def test_one_leg_gives_its_own_score(shop: SimpleNamespace, session: Session) -> None:
    for leg in ("dense", "lexical"):
        for hit in shop.search.search(session, "red oak chair", fusion="leg", legs=[leg]):
            assert hit.score == -hit.distances[leg]
