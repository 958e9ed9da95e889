"""The example shop with some of its products: those that the tests ask for, indexed in a moment."""

from sqlalchemy import URL, create_engine, insert
from sqlalchemy.orm import Session

from examples.shop.load import read_products
from examples.shop.models import Base, Product, products
from hybridsearch.backfill import backfill
from hybridsearch.schema import migrate

WORDS = ("toner", "bag", "bluetooth")


def fill(address: URL) -> None:
    """Make the shop's tables in a bare database, with the products whose titles have one of WORDS."""
    rows = [row for row in read_products() if any(word in row["title"].lower() for word in WORDS)]
    engine = create_engine(address)
    with engine.begin() as connection:
        migrate(connection)
        Base.metadata.create_all(connection)
    with Session(engine) as session, session.begin():
        session.execute(insert(Product), rows)
    backfill(engine, products)
    engine.dispose()
