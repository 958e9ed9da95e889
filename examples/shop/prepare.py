"""Make the shop's database ready: migrate, load the products, fill the index. `python -m examples.shop.prepare`"""

import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from examples.shop.load import load
from examples.shop.models import products
from hybridsearch.backfill import backfill
from hybridsearch.connect import sqlalchemy_url


def main() -> None:
    command.upgrade(Config(Path(__file__).parents[2] / "alembic.ini"), "head")
    engine = create_engine(sqlalchemy_url(os.environ["DATABASE_URL"]))
    with Session(engine) as session:
        load(session)
        session.commit()
    total = backfill(engine, products)
    engine.dispose()
    print(f"{total.read:,} products, {total.written:,} newly indexed")


if __name__ == "__main__":
    main()
