"""How an UPDATE can be noted, tried against each other: what the other ways than ours would cost.

    python -m benchmarks.freshness updates

Ours gathers the keys row by row and writes them once. The others: a row of the change table for each row, and a trigger
of the statement with transition tables, which compares old and new rows, whatever the update is of.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

ROWS = 120_000
WHEN = "(old.id) is distinct from (new.id) or (old.title, old.body) is distinct from (new.title, new.body)"
OTHERS = f"""
    create trigger trial_rows after update on article for each row when ({WHEN}) execute function article_changed_row();
    create function trial_tables() returns trigger language plpgsql security definer
    set search_path = pg_catalog, pg_temp set enable_nestloop = off as $$
    begin
        insert into public.article_change (article_id)
        select array_agg(n.id) from new_rows as n left join old_rows as o on o.id = n.id
        where (o.title, o.body) is distinct from (n.title, n.body) having count(*) > 0;
        if not found then
            return null;
        end if;
        delete from public.article_chunk as c using old_rows as o
        where o.id = c.article_id and not exists (select from new_rows as n where n.id = o.id);
        perform pg_notify('hybridsearch', 'article');
        return null;
    end
    $$;
    create trigger trial_tables after update on article referencing old table as old_rows new table as new_rows
        for each statement execute function trial_tables();
"""
WAYS = {
    "none": (),
    "gathered": ("article_moved", "article_updated", "article_updated_all"),
    "row by row": ("trial_rows",),
    "transition tables": ("trial_tables",),
}
COLUMNS = {"an indexed column": "title = title || 'x'", "another column": "views = views + 1"}
TURNS = {1: 30, 1000: 20, 100_000: 4}  # a turn of one row is of 100 statements


def updates(engine: Engine) -> dict[str, Any]:
    """Microseconds a row of an update beyond those without a trigger: the server's processor, and the clock."""
    with engine.begin() as connection:
        filled = (
            "insert into article (title, body) select 'Title ' || n, "
            "(select string_agg(md5((n * 20 + part)::text), ' ') from generate_series(1, 18) as part) "
            f"from generate_series(1, {ROWS}) as n"
        )
        for statement in (filled, "truncate article_change", OTHERS):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum analyze article"))
    return {
        f"{rows:,} rows, {column}": _compared(engine, rows, changed)
        for rows in TURNS
        for column, changed in COLUMNS.items()
    }


def _compared(engine: Engine, rows: int, changed: str) -> dict[str, Any]:
    """Every way in each turn; of the turns the faster half counts. Every turn is rolled back."""
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    statement = f"update article set {changed} where id " + ("= %s" if rows == 1 else "<= %s")
    arguments = range(1, 101) if rows == 1 else [rows]
    with engine.connect() as connection:
        backend = Path(f"/proc/{connection.scalar(text('select pg_backend_pid()'))}/schedstat")
        driver: Any = connection.connection.driver_connection
        driver.rollback()
        for _ in range(TURNS[rows] + 1):
            for way, triggers in WAYS.items():
                driver.execute("alter table article disable trigger user")
                for trigger in triggers:
                    driver.execute(f"alter table article enable trigger {trigger}")
                for number in range(ROWS - 10, ROWS):  # plans are made
                    driver.execute(f"update article set {changed} where id = %s", [number], prepare=True)
                run = _timed(backend, lambda: [driver.execute(statement, [one], prepare=True) for one in arguments])
                taken[way].append(run)
                driver.rollback()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum article"))
    figures = {}
    for way, runs in taken.items():
        processor, clock = (statistics.mean(sorted(one)[: len(one) // 2]) for one in zip(*runs[1:], strict=True))
        figures[way] = {
            "processor_us": round(processor * 1e6 / rows / len(arguments), 2),
            "clock_us": round(clock * 1e6 / rows / len(arguments), 2),
        }
    return figures


def _timed(backend: Path, work: Callable[[], object]) -> tuple[float, float]:
    used, began = int(backend.read_text().split()[0]), time.perf_counter()
    work()
    return (int(backend.read_text().split()[0]) - used) / 1e9, time.perf_counter() - began
