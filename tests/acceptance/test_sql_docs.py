"""docs/sql.md: its blocks run as they stand, on the shop that they name."""

import re
from pathlib import Path

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from examples.shop import Base, load, products
from hybridsearch.backfill import backfill
from hybridsearch.requests import answering

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "sql.md"


def test_every_block_runs(engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        load.load(session)
        session.commit()
    backfill(engine, products)
    blocks = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    with engine.begin() as connection:
        connection.exec_driver_sql(blocks.pop())  # create extension
    with answering(engine, [products]), engine.connect() as connection:
        while connection.scalar(text("select note from product_search('chair', 1)")) is not None:
            connection.rollback()
        for block in blocks:
            rows = connection.exec_driver_sql(block).all()
            assert rows
            assert {row._mapping.get("note") for row in rows} == {None}
