"""What the triggers note: every change of an indexed row, in the writer's transaction, however it is made."""

import random
import threading
import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from hybridsearch import HybridSearch, SearchIndex
from hybridsearch.freshness import freshness
from hybridsearch.indexing import refresh
from hybridsearch.lexical import lexical
from hybridsearch.page import Page
from hybridsearch.partitions import notice
from hybridsearch.words import index_words
from hybridsearch.worker import Worker
from tests.support.afresh import differences
from tests.support.encoders import WordHashEncoder
from tests.support.keyed import SHAPES, declare
from tests.support.models import articles, fill
from tests.support.workers import until


@pytest.fixture
def shop(engine: Engine) -> SimpleNamespace:
    """Articles 1 to 4, indexed."""
    shop = articles()
    fill(engine, shop)
    with Session(engine) as session, session.begin():
        refresh(session, shop.index)
    return shop


def noted(session: Session, index: SearchIndex) -> list[Any]:
    """The keys in the change table, sorted; of one column as values."""
    arrays = [session.scalars(select(func.unnest(array))).all() for array in index.key_columns(index.changes)]
    keys = sorted(zip(*arrays, strict=True))
    return [key[0] for key in keys] if len(arrays) == 1 else keys


def test_what_was_committed_is_found_after_a_refresh(shop: SimpleNamespace, session: Session) -> None:
    search = HybridSearch(shop.index)
    session.add(shop.Article(id=9, title="Purple sofa", body=None))
    assert search.refresh(session) == Page(written=1)
    assert search.search(session, "purple sofa")[0].ranks == {"dense": 1, "lexical": 1}
    assert search.refresh(session) == Page()
    session.rollback()
    assert noted(session, shop.index) == []
    assert len(search.search(session, "purple sofa", legs=["lexical"])) == 0


def test_content_that_comes_back_is_not_encoded_again(shop: SimpleNamespace, session: Session) -> None:
    shop.index.encoder.encoded.clear()
    session.execute(text("update article set title = title || ' '"))
    session.execute(text("update article set title = rtrim(title)"))
    session.execute(text("delete from article where id = 1"))
    session.execute(text("insert into article (id, title, body) values (1, 'Red chair', 'Another one')"))
    refresh(session, shop.index)
    assert len(shop.index.encoder.encoded) == 1


STATEMENTS = {
    "insert": ("insert into article (id, title) values (7, 'Stool'), (8, 'Bench')", [7, 8]),
    "insert of nothing": ("insert into article (id, title) select 9, 'Stool' where false", []),
    "update of an indexed column": ("update article set title = 'Stool' where id < 3", [1, 2]),
    "update to the same text": ("update article set title = title, body = body", []),
    "update to null": ("update article set body = null where id in (1, 3)", [1]),
    "update of the key": ("update article set id = 10 where id = 1", [1, 10]),
    "delete": ("delete from article where id > 2", [3, 4]),
    "delete of nothing": ("delete from article where id > 100", []),
    "on conflict, update": (
        "insert into article (id, title) values (1, 'Stool'), (9, 'Bench') "
        "on conflict (id) do update set title = excluded.title",
        [1, 9],
    ),
    "on conflict, nothing": ("insert into article (id, title) values (1, 'Stool') on conflict (id) do nothing", []),
    "merge": (
        "merge into article using (values (1, 'Stool'), (2, null), (9, 'Bench')) as given (id, title) "
        "on article.id = given.id "
        "when matched and given.title is null then delete "
        "when matched then update set title = given.title "
        "when not matched then insert (id, title) values (given.id, given.title)",
        [1, 2, 9],
    ),
    "writable cte": (
        "with gone as (delete from article where id = 4 returning *) "
        "insert into article (id, title) select id + 100, title from gone",
        [4, 104],
    ),
    "truncate": ("truncate article", [None]),
}


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_a_statement_notes_the_keys_that_it_changed(
    shop: SimpleNamespace, engine: Engine, session: Session, statement: str, role: str
) -> None:
    written, keys = STATEMENTS[statement]
    session.execute(text(f"set local session_replication_role = {role}"))
    session.execute(text(written))
    assert noted(session, shop.index) == keys
    session.commit()
    refresh(session, shop.index)
    session.commit()
    assert noted(session, shop.index) == []
    assert differences(engine, shop.index) == 0


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_is_rolled_back_is_not_noted(shop: SimpleNamespace, session: Session, statement: str) -> None:
    session.execute(text(STATEMENTS[statement][0]))
    session.rollback()
    assert noted(session, shop.index) == []
    assert session.scalar(select(func.count()).select_from(shop.index.chunks)) == 4


@pytest.mark.parametrize("statement", ["delete", "update of the key", "truncate", "merge"])
def test_the_chunks_of_a_row_go_with_it(shop: SimpleNamespace, session: Session, statement: str) -> None:
    session.execute(text(STATEMENTS[statement][0]))
    chunks, rows = shop.index.chunks, select(shop.Article.id)
    assert session.scalar(select(func.count()).select_from(chunks).where(chunks.c.article_id.not_in(rows))) == 0


def test_copy_notes_the_keys(shop: SimpleNamespace, session: Session) -> None:
    driver = session.connection().connection.dbapi_connection
    with driver.cursor() as cursor, cursor.copy("copy article (id, title) from stdin") as copy:
        for number in range(100, 200):
            copy.write_row((number, f"Chair {number}"))
    assert noted(session, shop.index) == list(range(100, 200))
    assert session.scalar(select(func.count()).select_from(shop.index.changes)) == 1


def test_a_hundred_thousand_rows_in_a_statement_are_one_row_of_changes(shop: SimpleNamespace, session: Session) -> None:
    session.execute(text("insert into article (id, title) select n, 'Chair' from generate_series(10, 100009) as n"))
    arrays = session.scalars(select(shop.index.changes.c.article_id)).all()
    assert [len(array) for array in arrays] == [100_000]
    assert arrays[0] == list(range(10, 100_010))
    session.execute(text("delete from article where id >= 10"))
    assert session.scalar(select(func.count()).select_from(shop.index.changes)) == 2


def test_more_rows_in_a_statement_are_as_many_rows_of_changes_as_hold_a_hundred_thousand_each(
    shop: SimpleNamespace, session: Session
) -> None:
    session.execute(text("insert into article (id, title) select n, 'Chair' from generate_series(10, 210009) as n"))
    session.execute(text("delete from article where id >= 10"))
    arrays = session.scalars(select(shop.index.changes.c.article_id)).all()
    assert (len(arrays), max(map(len, arrays))) == (6, 100_000)
    assert sorted(key for array in arrays for key in array) == sorted([*range(10, 210_010)] * 2)


def test_the_keys_that_an_update_changes_are_gathered(shop: SimpleNamespace, session: Session) -> None:
    session.execute(text("insert into article (id, title) select n, 'Chair' from generate_series(10, 5009) as n"))
    session.execute(delete(shop.index.changes))
    session.execute(text("update article set title = title || 's', id = id + 10000 * (id / 5009)"))
    arrays = session.scalars(select(shop.index.changes.c.article_id)).all()
    assert sorted(key for array in arrays for key in array) == [*range(1, 5), *range(10, 5010), 15009]
    assert len(arrays) < 40
    assert max(map(len, arrays)) <= 500
    session.execute(delete(shop.index.changes))
    session.execute(text("update article set body = title where id = 7000"))
    assert noted(session, shop.index) == []


def test_keys_are_gathered_by_savepoints_and_by_statements_within_statements(
    shop: SimpleNamespace, session: Session
) -> None:
    # Each row's update renames the next row, in a block of its own that is undone for the odd ones.
    session.execute(
        text("""
            create function ripple() returns trigger language plpgsql as $$
            begin
                update article set title = 'Ripple' where id = new.id + 1 and pg_trigger_depth() < 2;
                if new.id % 2 = 1 then
                    raise division_by_zero;
                end if;
                return null;
            exception when division_by_zero then
                return null;
            end
            $$;
            create trigger a_ripple after update on article for each row execute function ripple();
            create trigger z_ripple after update on article for each row execute function ripple();
        """)
    )
    session.execute(text("update article set title = 'Stool' where id in (1, 2)"))
    assert noted(session, shop.index) == [1, 2, 3]
    with pytest.raises(DBAPIError), session.begin_nested():
        session.execute(text("update article set title = 'Bench', body = (1 / (4 - id))::text"))
    session.execute(text("update article set body = 'Sofa' where id = 4"))
    assert noted(session, shop.index) == [1, 2, 3, 4]


def test_the_words_of_a_large_statement_are_taken_in_parts(shop: SimpleNamespace, session: Session) -> None:
    session.execute(text("insert into article (id, title) select n, 'Chair' from generate_series(10, 29) as n"))
    session.execute(text("insert into article (id, title) select n, 'Sofa' from generate_series(30, 34) as n"))
    for left in (18, 11, 4, 0):
        assert index_words(session, shop.index, limit=7) is not None
        assert noted(session, shop.index) == list(range(35 - left, 35))
    assert index_words(session, shop.index, limit=7) is None


@pytest.mark.parametrize(
    ("inserted", "behind"), [((150, 50), 0), ((150, 51), 150), ((201,), 201), ((300, 7), 300), ((7, 3000), 3000)]
)
def test_changed_rows_beyond_those_that_a_search_reads_are_counted(
    shop: SimpleNamespace, session: Session, inserted: tuple[int, ...], behind: int
) -> None:
    first = 10
    for number in inserted:
        rows = "insert into article (id, title) select :first + n, 'zebra' from generate_series(1, :number) as n"
        session.execute(text(rows), {"first": first, "number": number})
        first += number
    figures = freshness(session, shop.index)
    assert (figures.changed, figures.words_behind) == (sum(inserted), behind)
    found = session.execute(lexical(shop.index, "zebra", candidates=1000)).all()
    assert len(found) == sum(inserted) - behind


def test_the_texts_of_rows_do_not_travel_for_their_words(shop: SimpleNamespace, session: Session) -> None:
    long = "insert into article select n, 'Chair', repeat('red ', 25000) from generate_series(10, 15) as n"
    session.execute(text(long))
    assert index_words(session, shop.index, limit=1)  # loads what is loaded once
    tracemalloc.start()
    try:
        assert index_words(session, shop.index) == Page(read=5)
        assert tracemalloc.get_traced_memory()[1] < 250_000  # of 500,000 characters
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_truncate_takes_what_was_indexed_after_its_snapshot(
    shop: SimpleNamespace, engine: Engine, session: Session, level: str
) -> None:
    with engine.connect().execution_options(isolation_level=level) as old:
        old.execute(text("select from article_document limit 1"))
        session.execute(text("insert into article values (9, 'Purple sofa', null)"))
        refresh(session, shop.index)
        session.commit()
        old.execute(text("truncate article"))
        old.execute(text("insert into article values (1, 'Red chair', 'Anew')"))
        old.commit()
    refresh(session, shop.index)
    session.commit()
    assert session.scalars(select(shop.index.documents.c.article_id)).all() == [1]
    session.commit()
    assert differences(engine, shop.index) == 0


@pytest.mark.parametrize(
    ("statement", "fails"),
    [
        ("delete from article where id = 1", True),
        ("update article set id = 10 where id = 1", True),
        ("update article set title = 'Stool' where id = 1", False),
        ("truncate article", False),
    ],
)
def test_a_writer_in_an_old_snapshot_may_meet_a_worker_only_where_it_takes_chunks_away(
    shop: SimpleNamespace, engine: Engine, session: Session, statement: str, fails: bool
) -> None:
    session.execute(text("update article set title = 'Sofa' where id = 1"))
    session.commit()
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as old:
        old.execute(text("select from article_document limit 1"))
        refresh(session, shop.index)
        session.commit()
        with pytest.raises(DBAPIError, match="could not serialize") if fails else nullcontext():
            old.execute(text(statement))
            old.commit()
    refresh(session, shop.index)
    session.commit()
    assert differences(engine, shop.index) == 0


def test_truncate_and_a_search_do_not_wait_for_each_other(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    search = HybridSearch(shop.index)
    session.execute(text("create table kept as select * from article where id < 3"))
    session.commit()
    session.execute(text("select from article_chunk limit 0"))  # a search that goes on to the table
    with engine.begin() as other:
        other.execute(text("set local lock_timeout = '5s'"))
        other.execute(text("truncate article"))
        other.execute(text("insert into article select id, title, case id when 1 then body end from kept"))
    assert {hit.document.id for hit in search.search(session, "chair table", limit=9)} == {1, 2}
    refresh(session, shop.index)
    session.commit()
    assert differences(engine, shop.index) == 0


def test_a_cascade_notes_the_rows_that_it_deletes(engine: Engine, session: Session) -> None:
    shop = articles()
    with engine.begin() as connection:
        connection.execute(text("create table shelf (id int primary key)"))
        shop.Base.metadata.create_all(connection)
        connection.execute(text("alter table article add shelf int references shelf on delete cascade"))
        connection.execute(text("insert into shelf values (1), (2)"))
        connection.execute(
            text("insert into article (id, title, shelf) select n, 'Chair', n % 2 + 1 from generate_series(1, 6) as n")
        )
    refresh(session, shop.index)
    session.commit()
    session.execute(text("delete from shelf where id = 2"))
    assert noted(session, shop.index) == [1, 3, 5]
    session.commit()
    refresh(session, shop.index)
    session.commit()
    assert differences(engine, shop.index) == 0


def test_a_cascade_notes_the_rows_that_it_updates(shop: SimpleNamespace, session: Session) -> None:
    session.execute(text("create table kind as select distinct title as name from article"))
    session.execute(text("alter table kind add primary key (name)"))
    session.execute(text("alter table article add foreign key (title) references kind on update cascade"))
    session.execute(text("update kind set name = name || ' of oak' where name <> 'Blue table'"))
    assert noted(session, shop.index) == [1, 3, 4]
    assert session.scalar(select(func.count()).select_from(shop.index.changes)) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_any_key_is_noted(engine: Engine, session: Session, shape: Any) -> None:
    shop = declare(shape)
    if shape.schema:
        session.execute(CreateSchema(shape.schema))
    shop.Base.metadata.create_all(session.connection())
    session.add_all(shop.rows())
    session.flush()
    expected = sorted(shape.key(n) if len(shape.columns) > 1 else shape.key(n)[0] for n in range(7))
    assert noted(session, shop.index) == expected
    refresh(session, shop.index)
    for statement in (update(shop.Item).values(title="Stool"), delete(shop.Item)):
        session.execute(statement)
        assert noted(session, shop.index) == expected
        refresh(session, shop.index)
    assert session.scalar(select(func.count()).select_from(shop.index.documents)) == 0


def test_a_role_that_may_not_see_the_index_may_write_the_table(shop: SimpleNamespace, session: Session) -> None:
    role = f"clerk_{random.randrange(10**9)}"
    session.execute(text(f"create role {role}"))
    session.execute(text(f"grant select, insert, update, delete, truncate on article to {role}"))
    session.execute(text(f"set local role {role}"))
    for statement in ("insert", "update of an indexed column", "delete"):
        session.execute(text(STATEMENTS[statement][0]))
    session.execute(text("reset role"))
    assert set(noted(session, shop.index)) == {1, 2, 3, 4, 7, 8}
    session.execute(text(f"set local role {role}"))
    session.execute(text(STATEMENTS["truncate"][0]))


# Partitions


class Dated:
    """Notes(id, day), partitioned by range of `day`, with an index."""

    def __init__(self) -> None:
        class Base(DeclarativeBase):
            pass

        class Note(Base):
            __tablename__ = "note"
            __table_args__ = {"postgresql_partition_by": "RANGE (day)"}  # noqa: RUF012

            id: Mapped[int] = mapped_column(primary_key=True)
            day: Mapped[int] = mapped_column(primary_key=True)
            title: Mapped[str]

        self.Base, self.Note = Base, Note
        self.index = SearchIndex(Note, ["title"], encoder=WordHashEncoder())


@pytest.fixture
def notes(engine: Engine) -> Dated:
    notes = Dated()
    notes.Base.metadata.create_all(engine)
    with engine.begin() as connection:
        for first in (0, 10):
            connection.execute(
                text(f"create table note_{first} partition of note for values from ({first}) to ({first + 10})")
            )
    with Session(engine) as session, session.begin():
        session.execute(insert(notes.Note), [{"id": day, "day": day, "title": f"Chair {day}"} for day in range(20)])
        refresh(session, notes.index)
    return notes


PARTITIONED = {
    "insert by the table": ("insert into note values (50, 5, 'Stool')", [(50, 5)]),
    "insert by the partition": ("insert into note_10 values (50, 15, 'Stool')", [(50, 15)]),
    "update by the partition": ("update note_0 set title = 'Stool' where day = 3", [(3, 3)]),
    "delete by the partition": ("delete from note_10 where day > 17", [(18, 18), (19, 19)]),
    "delete by the table": ("delete from note where day in (9, 10)", [(9, 9), (10, 10)]),
    "a row that moves": ("update note set day = 12 where id = 2", [(2, 2), (2, 12)]),
    "truncate of the table": ("truncate note", [(None, None)]),
}


@pytest.mark.parametrize("statement", PARTITIONED)
@pytest.mark.parametrize("role", ["origin", "replica"])
def test_partitions_are_followed(notes: Dated, engine: Engine, session: Session, statement: str, role: str) -> None:
    written, keys = PARTITIONED[statement]
    session.execute(text(f"set local session_replication_role = {role}"))
    session.execute(text(written))
    assert noted(session, notes.index) == keys
    session.commit()
    refresh(session, notes.index)
    session.commit()
    assert differences(engine, notes.index) == 0


def test_a_partition_made_later_is_followed(notes: Dated, engine: Engine, session: Session) -> None:
    session.execute(text("create table note_20 partition of note for values from (20) to (30)"))
    session.execute(text("insert into note_20 values (70, 25, 'Stool')"))
    session.execute(text("set local session_replication_role = replica"))
    session.execute(text("insert into note_20 values (71, 25, 'Bench')"))
    assert noted(session, notes.index) == [(70, 25), (71, 25)]


def test_partitions_that_come_and_go_are_noticed(notes: Dated, engine: Engine, session: Session) -> None:
    worker = Worker(engine, [notes.index])
    worker.once()
    session.execute(text("create table elsewhere (like note including all)"))
    session.execute(
        text("insert into elsewhere select n, 20 + n % 10, 'Sofa ' || n from generate_series(1, 2500) as n")
    )
    session.execute(text("alter table note attach partition elsewhere for values from (20) to (30)"))
    session.commit()
    with engine.begin() as connection:
        assert notice(Session(connection), notes.index)
        assert not notice(Session(connection), notes.index)
        assert len(noted(Session(connection), notes.index)) == 2500
    worker.once()
    assert differences(engine, notes.index) == 0
    for statement in ("truncate note_0", "alter table note detach partition elsewhere", "drop table note_10"):
        session.execute(text(statement))
        session.commit()
        worker.once()
        assert differences(engine, notes.index) == 0
    assert session.scalar(select(func.count()).select_from(notes.index.chunks)) == 0


@pytest.mark.parametrize("statement", ["delete from article", "truncate article", "update article set id = id + 100"])
def test_a_row_that_is_back_with_its_content_has_its_vectors_again(
    shop: SimpleNamespace, engine: Engine, session: Session, statement: str
) -> None:
    session.execute(text("create table kept as select * from article"))
    session.execute(text(statement))
    session.execute(text("insert into article select * from kept"))
    session.commit()
    refresh(session, shop.index)
    session.commit()
    assert differences(engine, shop.index) == 0


INTERRUPTED = """
    create function interrupted() returns trigger language plpgsql as $$
    begin
        perform pg_advisory_xact_lock(tg_argv[0]::int);
        return new;
    end
    $$;
    create trigger stop before insert on article_document for each row execute function interrupted(1);
    create trigger stop before insert on article_queue for each row execute function interrupted(2);
"""


def test_a_content_that_goes_and_comes_back_while_it_is_indexed_leaves_its_own_words(
    shop: SimpleNamespace, engine: Engine, session: Session
) -> None:
    title = text("update article set title = :title where id = 1")
    session.execute(title, {"title": "Sofa"})
    # The words' transaction stops twice: between the look at the hash and the reading of the words, and after that.
    session.execute(text(INTERRUPTED))
    session.commit()
    first, second = (create_engine(engine.url).connect() for _ in range(2))
    for number, connection in enumerate((first, second), 1):
        connection.execute(text(f"select pg_advisory_xact_lock({number})"))
    worker = threading.Thread(target=Worker(engine, [shop.index]).once)
    worker.start()
    for number, (connection, written) in enumerate(((first, "Stool"), (second, "Sofa")), 1):
        waits = text(f"select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = {number}")
        until(lambda waits=waits: session.scalar(waits) == 1)
        session.execute(title, {"title": written})
        session.commit()
        connection.close()
        connection.engine.dispose()
    worker.join()
    Worker(engine, [shop.index]).once()
    assert differences(engine, shop.index) == 0
