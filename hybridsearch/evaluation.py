"""Measure the ranking on a judged collection: each leg alone, and the fusion.

    evaluate(engine, Path("scifact"), encoder="minilm")     # [Quality(system="lexical", ndcg=0.68, ...), ...]

A collection is a folder with corpus.jsonl.gz (id, title, text), queries.jsonl (id, text) and qrels.tsv (query_id,
doc_id, grade, under a header). It is loaded into a schema of its own, which is dropped at the
end; so is our own schema where the database had none. Needs the extra `eval`.
"""

import csv
import gzip
import json
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, Text, insert, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema, DropSchema

from hybridsearch.backfill import backfill
from hybridsearch.bm25 import BM25, EngineName
from hybridsearch.database import explained
from hybridsearch.encoders import Encoder
from hybridsearch.errors import ConfigurationError, MissingDependency
from hybridsearch.model import SearchIndex
from hybridsearch.page import Page
from hybridsearch.routines import SCHEMA, stored
from hybridsearch.schema import migrate
from hybridsearch.searcher import HybridSearch
from hybridsearch.segmentation import Segmenter
from hybridsearch.state import forget_encoder

DEPTH = 100

Run = dict[str, dict[str, float]]
Progress = Callable[[Page], object]


@dataclass(frozen=True)
class Quality:
    """Means over the judged queries: nDCG@10 (graded), recall@100, reciprocal rank (a grade above 0 is relevant)."""

    system: str
    ndcg: float
    recall: float
    mrr: float
    queries: int


@dataclass(frozen=True)
class Collection:
    """A judged collection: the folder, its queries by id, and the judged grades by query and document."""

    folder: Path
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]

    def documents(self) -> Iterator[dict[str, str]]:
        """Yield id, title and text of every document."""
        with gzip.open(self.folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                yield {"id": str(row["id"]), "title": row.get("title") or "", "text": row.get("text") or ""}


def read_collection(folder: Path) -> Collection:
    """Read a judged collection. Raises ConfigurationError where a file is missing."""
    for name in ("corpus.jsonl.gz", "queries.jsonl", "qrels.tsv"):
        if not (folder / name).is_file():
            raise ConfigurationError(f"{folder} is not a judged collection: it has no {name}")
    with (folder / "queries.jsonl").open(encoding="utf-8") as file:
        queries = {str(row["id"]): row["text"] for row in map(json.loads, file)}
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    with (folder / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judgements[row["query_id"]][row["doc_id"]] = int(row["grade"])
    return Collection(folder, queries, judgements)


def evaluate(
    engine: Engine,
    folder: Path,
    *,
    encoder: str | Encoder = "minilm",
    config: str = "english",
    bm25: BM25 | None = None,
    lexical: EngineName = "sql",
    segmenter: Segmenter | None = None,
    on_page: Progress = lambda page: None,
) -> list[Quality]:
    """Index a collection and measure it; return the quality of each leg and of the fusion. Leaves nothing behind.

    `lexical` is the engine that ranks by words, `segmenter` what cuts Chinese for the engine `memory`.
    """
    collection = read_collection(folder)
    declared = {"encoder": encoder, "config": config, "bm25": bm25, "engine": lexical, "segmenter": segmenter}
    with _scratch_index(engine, declared) as index:
        _load(engine, index, collection)
        backfill(engine, index, on_page=on_page)
        return [_quality(system, run, collection) for system, run in _runs(engine, index, collection).items()]


@contextmanager
def _scratch_index(engine: Engine, declared: Mapping[str, Any]) -> Iterator[SearchIndex]:
    schema = f"hybridsearch_eval_{uuid.uuid4().hex[:12]}"

    class Base(DeclarativeBase):
        metadata = MetaData(schema=schema)

    class Document(Base):
        __tablename__ = "document"

        id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
        title: Mapped[str]
        text: Mapped[str]

    index = SearchIndex(Document, ["title", "text"], title="title", **declared)
    with explained(index), _migrated(engine):
        with engine.begin() as connection:
            connection.execute(CreateSchema(schema))
            Base.metadata.create_all(connection)
        try:
            yield index
        finally:
            with Session(engine) as session, session.begin():
                Base.metadata.drop_all(session.connection())  # with what our schema knows of the index
                session.execute(DropSchema(schema, cascade=True))
                forget_encoder(session, index)


@contextmanager
def _migrated(engine: Engine) -> Iterator[None]:
    """Have our schema and pgvector; what was not there before goes at the end, unless somebody uses it by then."""
    with engine.begin() as connection:
        before = set(connection.scalars(_PRESENT, {"schema": SCHEMA}))
        migrate(connection)
    try:
        yield
    finally:
        with engine.begin() as connection:
            made = {SCHEMA, "vector"} - before
            if SCHEMA in made and not stored(connection):
                connection.execute(DropSchema(SCHEMA, cascade=True))
            if "vector" in made:
                with suppress(DBAPIError), connection.begin_nested():
                    connection.execute(text("drop extension vector"))


_PRESENT = text("""
    select nspname::text from pg_catalog.pg_namespace where nspname = :schema
    union all
    select extname::text from pg_catalog.pg_extension where extname = 'vector'
""")


def _load(engine: Engine, index: SearchIndex, collection: Collection) -> None:
    rows = collection.documents()
    with Session(engine) as session, session.begin():
        while page := list(islice(rows, 1000)):
            session.execute(insert(index.model), page)


def _runs(engine: Engine, index: SearchIndex, collection: Collection) -> dict[str, Run]:
    """The best 100 documents of every judged query by every system: run[query][document] = score."""
    search = HybridSearch(index)
    systems = {**{leg: (leg,) for leg in index.legs}, "fused": index.legs}
    runs: dict[str, Run] = {system: {} for system in systems}
    with Session(engine) as session:
        for key in collection.judgements:
            if not collection.queries[key].strip():
                continue  # a blank query finds nothing
            query = search.read(session, search.encode(collection.queries[key], syntax="plain"))  # prose, not operators
            for system, legs in systems.items():
                ranking = search.select(query, limit=DEPTH, candidates=DEPTH, legs=legs)
                runs[system][key] = {row[0]: row.score for row in session.execute(ranking)}
    return runs


def _quality(system: str, run: Run, collection: Collection) -> Quality:
    try:
        from ir_measures import RR, R, calc_aggregate, nDCG
    except ImportError as error:
        raise MissingDependency("ir-measures", "eval") from error
    judged = {query: grades for query, grades in collection.judgements.items() if any(g > 0 for g in grades.values())}
    measures: dict[Any, float] = calc_aggregate([nDCG @ 10, R @ 100, RR], judged, run)
    return Quality(system, measures[nDCG @ 10], measures[R @ 100], measures[RR], len(judged))
