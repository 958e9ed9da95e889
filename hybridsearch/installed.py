"""What `engine="auto"` stands for: asked once, when the index is declared, of the database in DATABASE_URL.

installed_engine("article", bm25, {"title": 1.0})       # "pg_textsearch", if it is there and can do that, else "sql"

An index keeps the engine that it was first defined with: an extension that comes later changes nothing by itself.
"""

import os
from collections.abc import Mapping

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from hybridsearch.bm25 import BM25, EngineName, checked_engine
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.errors import DeclarationError
from hybridsearch.routines import stored

_EXTENSION = text("select exists (select from pg_catalog.pg_extension where extname = 'pg_textsearch')")


def installed_engine(name: str, bm25: BM25, fields: Mapping[str, float]) -> EngineName:
    """Return the engine of the index `name`, by its qualified name: that of its definition, else the fastest there is.

    Raises DeclarationError where DATABASE_URL is not set, or nobody answers there: to guess would be to declare other
    tables than the database has.
    """
    address = os.environ.get("DATABASE_URL")
    if not address:
        raise DeclarationError(f'index "{name}": engine="auto" asks the database in DATABASE_URL, which is not set')
    engine = create_engine(sqlalchemy_url(address), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            known = stored(connection).get(name)
            extended = bool(connection.scalar(_EXTENSION))
    except OperationalError as error:
        said = str(error.orig).strip().partition("\n")[0]
        raise DeclarationError(
            f'index "{name}": engine="auto" asks the database in DATABASE_URL, which does not answer: {said}'
        ) from error
    if known is not None:
        return checked_engine(name, known.engine, bm25, fields)
    try:
        return checked_engine(name, "pg_textsearch" if extended else "sql", bm25, fields)
    except DeclarationError:  # it does not compute what is declared
        return "sql"
