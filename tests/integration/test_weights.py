"""The sparse leg through its postings: whatever was merged, and whatever happened since, it is that of all chunks."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st
from pgvector import SparseVector
from sqlalchemy import Engine, delete, func, insert, literal, select, text
from sqlalchemy.orm import Session, sessionmaker

from hybridsearch import Encoding
from hybridsearch.alembic import autogenerate_options
from hybridsearch.backfill import backfill, upkeep
from hybridsearch.idle import idle
from hybridsearch.sparse import compared, sparse
from hybridsearch.stages import MAX_UNWEIGHED
from hybridsearch.status import status
from hybridsearch.weights import put, waiting, weigh, weigh_anew
from tests.support.encoders import WordHashEncoder
from tests.support.models import articles

DIMENSIONS = 60
HERE = 2  # dimensions of the dense vectors, which nothing asks for


class WeighedWords(WordHashEncoder):
    """Every word is a token, and weighs by its length."""

    sparse_dimensions: int | None = 1000

    def encode_queries(self, texts: Sequence[str]) -> Encoding:
        dense = super().encode_queries(texts).dense
        words = [text.lower().split() or ["nothing"] for text in texts]
        return Encoding(dense, [{sum(map(ord, word)) % 1000: len(word) / 10 for word in own} for own in words])


def made(engine: Engine) -> SimpleNamespace:
    encoder = WeighedWords(dimensions=HERE)
    encoder.sparse_dimensions = DIMENSIONS
    shop = articles(encoder=encoder)
    shop.Base.metadata.drop_all(engine)
    shop.Base.metadata.create_all(engine)
    return shop


def vectors(random: np.random.Generator, count: int) -> list[Mapping[int, float]]:
    """Few tokens in nearly all, most in few; weights from tiny to large, some equal."""
    found = []
    for _ in range(count):
        tokens = np.unique((DIMENSIONS * random.random(random.integers(1, 12)) ** 3).astype(int))
        weights = np.round(random.gamma(2, 0.3, len(tokens)) + 1e-6, 2) + random.choice([1e-6, 0, 0, 30], len(tokens))
        found.append({int(token): float(max(weight, 1e-6)) for token, weight in zip(tokens, weights, strict=True)})
    return found


def store(session: Session, shop: Any, first: int, given: Sequence[Mapping[int, float]], each: int = 1) -> None:
    """Write articles, numbered from `first`, of so many chunks each, and let the chunks wait to be merged."""
    keys = [first + n // each for n in range(len(given))]
    session.execute(insert(shop.Article), [{"id": key, "title": "x", "body": None} for key in sorted(set(keys))])
    rows = [
        {
            "article_id": key,
            "ordinal": n % each,
            "start": 0,
            "stop": 1,
            "text": "x",
            "dense": [1.0] * HERE,
            "sparse": SparseVector(dict(weights), DIMENSIONS),
        }
        for n, (key, weights) in enumerate(zip(keys, given, strict=True))
    ]
    session.execute(insert(shop.index.chunks), rows)
    put(session, shop.index, select(shop.Article.id.label("article_id")).where(shop.Article.id.in_(keys)).subquery())


def check(session: Session, shop: Any, queries: Sequence[Mapping[int, float]], depths: Sequence[int]) -> None:
    """Hold the leg against the comparison of all chunks: the same documents in the same order, the same products."""
    for query in queries:
        for k in depths:
            found = [tuple(row) for row in session.execute(sparse(shop.index, query, candidates=k))]
            assert found == [tuple(row) for row in session.execute(compared(shop.index, query, candidates=k))]


def merged(session: Session, shop: Any, most: int = 100_000) -> None:
    while weigh(session, shop.index, most=most):
        pass
    assert waiting(session, shop.index) == 0


STEP = st.one_of(
    st.tuples(st.just("store"), st.integers(1, 250), st.integers(1, 3)),
    st.tuples(st.just("drop"), st.integers(1, 10)),
    st.tuples(st.just("weigh"), st.integers(1, 300)),
    st.tuples(st.just("anew")),
    st.tuples(st.just("jump"), st.sampled_from([15_900, 16_100, 1_048_500, 1_048_700])),
)


@given(steps=st.lists(STEP, min_size=2, max_size=8), seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_after_any_sequence_the_leg_is_that_of_all_chunks(steps: list[Any], seed: int, engine: Engine) -> None:
    shop = made(engine)
    random, first = np.random.default_rng(seed), 1
    with Session(engine) as session:
        for step in steps:
            match step:
                case ("store", count, each):
                    store(session, shop, first, vectors(random, count), each)
                    first += count
                case ("drop", share):
                    some = select(shop.Article.id).where(shop.Article.id % share == 0)
                    session.execute(delete(shop.Article).where(shop.Article.id.in_(some)))
                case ("weigh", most):
                    weigh(session, shop.index, most=most)
                case ("anew",):
                    list(weigh_anew(session, shop.index))
                case ("jump", number):
                    sequence = func.pg_get_serial_sequence(shop.index.pieces.name, "number")
                    last = session.scalar(select(func.max(shop.index.pieces.c.number))) or 0
                    session.execute(select(func.setval(sequence, max(number, last + 1))))
            session.commit()
            check(session, shop, vectors(random, 2), (1, 10, 1000))


def test_many_chunks_over_several_ranges(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(1)
    with Session(engine) as session:
        sequence = func.pg_get_serial_sequence(shop.index.pieces.name, "number")
        session.execute(select(func.setval(sequence, 1_048_576 - 20_000)))
        store(session, shop, 1, vectors(random, 4000), each=2)
        for most in (100, 900, 2000, 4000):  # a list that has grown becomes rows of ranges
            weigh(session, shop.index, most=most)
            check(session, shop, vectors(random, 5), (1, 10, 100))
            session.execute(select(func.setval(sequence, func.nextval(sequence) + 12_000)))
        assert waiting(session, shop.index) == 0
        place = shop.index.weights.c.place
        ranges, spans = session.execute(
            select(
                func.count(place.distinct()).filter(place >= 0), func.count(place.distinct()).filter(place < 0)
            ).where(shop.index.weights.c.pieces > 0)
        ).one()
        assert ranges >= 3
        assert spans == 2
        check(session, shop, vectors(random, 20), (1, 10, 100, 1000))


def test_negative_weights_of_a_query_take_away(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(2)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 700))
        merged(session, shop)
        asked = [{t: w if t % 2 else -w / 3 for t, w in query.items()} for query in vectors(random, 20)]
        check(session, shop, asked, (1, 10, 1000))
        assert not session.execute(sparse(shop.index, {1: -1.0}, candidates=5)).all()


def test_equal_products_are_ordered_by_key_at_the_limit_too(engine: Engine) -> None:
    shop = made(engine)
    with Session(engine) as session:
        store(session, shop, 1, [{3: 0.5, n % 20 + 10: 0.25} for n in range(500)])
        merged(session, shop)
        store(session, shop, 501, [{3: 0.5}] * 100)  # and some that are not merged
        found = [row[0] for row in session.execute(sparse(shop.index, {3: 1.0}, candidates=550))]
        assert found == list(range(1, 551))


def test_a_filter_is_full_whether_it_keeps_much_or_little(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(3)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 5000))
        merged(session, shop)
        session.commit()
        session.execute(text("analyze"))
        for share in (2, 4, 100, 2500):
            where = shop.Article.id % share == 0
            for query in vectors(random, 5):
                leg = sparse(shop.index, query, candidates=20, where=where)
                told = compared(shop.index, query, candidates=20, where=where)
                assert session.execute(leg).all() == session.execute(told).all()


def test_what_is_older_than_the_postings_is_found_and_merged(engine: Engine) -> None:
    """An index of a release without postings has chunks, and nothing that waits."""
    shop, random = made(engine), np.random.default_rng(4)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 300))
        session.execute(delete(shop.index.unweighed))
        store(session, shop, 301, vectors(random, 10))
        check(session, shop, vectors(random, 5), (10, 1000))
        merged(session, shop)
        check(session, shop, vectors(random, 5), (10, 1000))
        assert session.scalar(select(func.count()).select_from(shop.index.pieces)) == 310


def test_vectors_without_weights_are_merged_once(engine: Engine) -> None:
    shop = made(engine)
    with Session(engine) as session:
        store(session, shop, 1, [{}, {}])
        assert [weigh(session, shop.index) for _ in range(2)] == [2, 0]
        assert not session.execute(sparse(shop.index, {1: 1.0}, candidates=5)).all()
        store(session, shop, 3, [{1: 0.5}])
        check(session, shop, [{1: 1.0}], (1, 10))


def test_a_step_that_is_rolled_back_leaves_everything_as_it_was(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(5)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 200))
        session.commit()
        weigh(session, shop.index, most=150)
        session.rollback()
        assert waiting(session, shop.index) == 200
        assert session.scalar(select(func.count()).select_from(shop.index.weights)) == 0
        merged(session, shop)
        check(session, shop, vectors(random, 5), (10, 1000))


def test_dead_weights_go_and_emptied_ranges_are_left(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(6)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 900))
        merged(session, shop)
        sequence = func.pg_get_serial_sequence(shop.index.pieces.name, "number")
        session.execute(select(func.setval(sequence, 40_000)))
        store(session, shop, 901, vectors(random, 300))
        merged(session, shop)
        session.execute(delete(shop.Article).where(shop.Article.id % 3 == 0))
        session.commit()
        before = session.scalar(select(func.sum(shop.index.weights.c.pieces)))
    upkeep(engine, shop.index)
    with Session(engine) as session:
        pieces, weights = shop.index.pieces, shop.index.weights
        held = func.coalesce(
            func.cardinality(weights.c.codes),
            literal(0) + func.bit_count(func.binary_quantize(weights.c.weights.op("::")(text("vector")))),
        )
        total, stored = session.execute(select(func.sum(weights.c.pieces), func.sum(held))).one()
        lengths = [len(row[0].indices()) for row in session.execute(select(shop.index.chunks.c.sparse))]
        assert total == stored == sum(lengths) < before
        assert session.scalar(select(func.count()).select_from(pieces)) == len(lengths)
        assert session.scalar(select(func.min(pieces.c.number))) > 40_000  # few were left of the first range
        check(session, shop, vectors(random, 10), (1, 10, 1000))


def test_a_worker_with_nothing_else_to_do_drops_what_is_dead(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(9)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 600))
        merged(session, shop)
        session.commit()
        before = status(session, shop.index).weights
    begin = sessionmaker(engine).begin
    assert list(idle(begin, shop.index)) == []
    with Session(engine) as session, session.begin():
        session.execute(delete(shop.Article).where(shop.Article.id % 2 == 0))
    assert len(list(idle(begin, shop.index))) == 1
    with Session(engine) as session:
        after = status(session, shop.index)
        assert (after.unweighed, after.chunks) == (0, 300)
        assert after.weights == sum(
            len(row[0].indices()) for row in session.execute(select(shop.index.chunks.c.sparse))
        )
        assert 0 < after.weights < before
        check(session, shop, vectors(random, 5), (1, 10, 1000))


def test_readers_see_one_snapshot_while_four_write_and_one_merges(engine: Engine) -> None:
    shop = made(engine)
    stop, faults, done = threading.Event(), list[Exception](), Counter[str]()

    def merge(number: int) -> None:
        while not stop.is_set():
            with Session(engine) as session, session.begin():
                done["merged"] += weigh(session, shop.index, most=60)
                done["cleaned"] += sum(weigh_anew(session, shop.index))

    def write(number: int) -> None:
        random, first = np.random.default_rng(100 + number), 1_000_000 * number
        while not stop.is_set():
            with Session(engine) as session, session.begin():
                keys = select(shop.Article.id).where(shop.Article.id.between(first - 500, first - 200))
                session.execute(delete(shop.Article).where(shop.Article.id.in_(keys)))
                store(session, shop, first, vectors(random, 40))
                first += 40
                done["written"] += 40

    def read(number: int) -> None:
        random = np.random.default_rng(7 + number)
        for _ in range(30):
            with Session(engine) as session:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                check(session, shop, vectors(random, 2), (10, 200))
            done["read"] += 1

    def run(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except Exception as error:
            faults.append(error)

    writers = [threading.Thread(target=run, args=(work, n)) for n, work in enumerate([merge, *[write] * 4])]
    readers = [threading.Thread(target=run, args=(read, number)) for number in range(4)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    assert not faults
    assert done["read"] == 120
    assert min(done["written"], done["merged"], done["cleaned"]) > 100, done


def test_a_worker_merges_what_waits(engine: Engine) -> None:
    shop = articles(encoder=WeighedWords())
    shop.Base.metadata.create_all(engine)
    count = MAX_UNWEIGHED + 200
    with Session(engine) as session, session.begin():
        rows = [{"id": n, "title": f"common number{n} word{n % 7}", "body": None} for n in range(1, count + 1)]
        session.execute(insert(shop.Article), rows)
    backfill(engine, shop.index)
    asked = shop.index.encoder.encode_queries(["common word3"]).sparse[0]
    with Session(engine) as session:
        assert waiting(session, shop.index) <= MAX_UNWEIGHED
        assert session.scalar(select(func.count()).select_from(shop.index.pieces)) > 0
        check(session, shop, [asked], (1, 10, 1000))


def test_the_postings_are_used_where_all_chunks_need_not_be_read(engine: Engine) -> None:
    shop, random = made(engine), np.random.default_rng(8)
    with Session(engine) as session:
        store(session, shop, 1, vectors(random, 3000))
        merged(session, shop)
        session.execute(text(f"update {shop.index.pieces.name} set chunk = -chunk"))
        assert not session.execute(sparse(shop.index, {0: 1.0}, candidates=5)).all()


@pytest.mark.parametrize("weight", [1e-30, 1e30])
def test_weights_of_any_size(engine: Engine, weight: float) -> None:
    shop = made(engine)
    with Session(engine) as session:
        store(session, shop, 1, [{1: weight, 2 + n % 9: 1.0} for n in range(200)])
        merged(session, shop)
        check(session, shop, [{1: 1.0, 4: 1.0}, {1: 1e-20, 2: 1e-5}, {1: 1e-8}], (1, 10, 300))


def test_a_migration_finds_nothing_to_do(engine: Engine) -> None:
    shop = made(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=autogenerate_options())
        assert compare_metadata(context, shop.Base.metadata) == []
