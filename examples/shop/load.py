"""Fill the shop: the example's products, by the ORM, as any application writes its rows."""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from examples.shop.models import Product

DATA = Path(__file__).parent / "data"


def read_products() -> Iterator[dict[str, Any]]:
    with gzip.open(DATA / "products.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            released = row.get("date_released")
            yield {
                "id": int(row["id"]),
                "title": row["title"],
                "description": row["text"] or None,
                "brand": row["brand"],
                "price": Decimal(row["price"]) / 100,
                "released": datetime.fromisoformat(released).date() if released else None,
                "attributes": row["attrs"],
            }


def load(session: Session) -> int:
    """Insert the products that are not there yet; return how many were."""
    present = set(session.scalars(select(Product.id)))
    missing = [row for row in read_products() if row["id"] not in present]
    if missing:
        session.execute(insert(Product), missing)
    return len(missing)
