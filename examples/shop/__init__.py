"""A shop with an ordinary product table, and a search index over it: `--app examples.shop`."""

from examples.shop.models import Base, Product, products

__all__ = ["Base", "Product", "products"]
