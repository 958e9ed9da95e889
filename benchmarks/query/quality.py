"""nDCG@10 of hybrid search and of the usual recipe on judged collections, with the same vectors (minilm) in one run:
`make bench-recipe DATA=folder`, which writes benchmarks/results/recipe-quality.json.

A collection is indexed once: it stays in the database in the folder .bench (--folder), and a stopped run goes on.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "lexical"))
import recipe
import servers
from sqlalchemy import Engine, MetaData, Text, create_engine, func, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateSchema

from hybridsearch import HybridSearch, SearchIndex, load_encoder
from hybridsearch.backfill import backfill
from hybridsearch.connect import sqlalchemy_url
from hybridsearch.evaluation import Collection, read_collection
from hybridsearch.schema import migrate

RESULT = Path(__file__).parents[1] / "results" / "recipe-quality.json"
COLLECTIONS = ("scifact", "icecat-chorus")
WORDS: tuple[recipe.Words, ...] = ("plainto", "any")


def beside_recipe(engine: Engine, data: Path) -> dict[str, dict[str, float]]:
    """Measure every collection that the folder has."""
    found = {}
    for name in COLLECTIONS:
        if (data / name).is_dir():
            found[name] = _measured(engine, name.replace("-", "_"), read_collection(data / name))
            print(f"{name}: " + ", ".join(f"{system} {ndcg:.3f}" for system, ndcg in found[name].items()), flush=True)
    return found


def _measured(engine: Engine, schema: str, collection: Collection) -> dict[str, float]:
    from ir_measures import calc_aggregate, nDCG

    index = _indexed(engine, schema, collection)
    search = HybridSearch(index)
    runs: dict[str, dict[str, dict[str, float]]] = {}
    with Session(engine) as session:
        for key in collection.judgements:
            if not collection.queries[key].strip():
                continue
            query = search.encode(collection.queries[key], syntax="plain")
            rows: dict[str, Any] = {
                f"hybrid {fusion}": session.execute(search.select(query, limit=100, fusion=fusion))
                for fusion in ("rrf", "minmax", "zscore")
            }
            values = recipe.values(query.vector, collection.queries[key], "english", 100)
            for words in WORDS:
                rows[f"recipe {words}"] = session.execute(recipe.statement(schema, "document", words), values)
            for system, answer in rows.items():
                runs.setdefault(system, {})[key] = {row[0]: float(row.score) for row in answer}
    judged = {query: grades for query, grades in collection.judgements.items() if any(g > 0 for g in grades.values())}
    return {system: float(calc_aggregate([nDCG @ 10], judged, run)[nDCG @ 10]) for system, run in runs.items()}


def _indexed(engine: Engine, schema: str, collection: Collection) -> SearchIndex:
    class Base(DeclarativeBase):
        metadata = MetaData(schema=schema)

    class Document(Base):
        __tablename__ = "document"

        id: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
        title: Mapped[str]
        text: Mapped[str]

    index = SearchIndex(Document, ["title", "text"], title="title", encoder=load_encoder("minilm"))
    with engine.begin() as connection:
        connection.execute(CreateSchema(schema, if_not_exists=True))
        Base.metadata.create_all(connection)
    with Session(engine) as session, session.begin():
        if not session.scalar(select(func.count()).select_from(Document)):
            session.execute(insert(Document), list(collection.documents()))
    backfill(engine, index)  # encodes what is not there yet
    with engine.begin() as connection:
        for statement in recipe.tables(schema, "document", ["title", "text"], "english"):
            connection.execute(text(statement))
        connection.execute(text(f"analyze {schema}.document, {schema}.document_chunk"))
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder of judged collections")
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help="where the indexes stay")
    given = parser.parse_args()
    folder = (given.folder / "recipe-quality").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with servers.ours(folder / "postgres") as server:
        engine = create_engine(sqlalchemy_url(server.address))
        with engine.begin() as connection:
            migrate(connection)
        found = beside_recipe(engine, given.data)
        engine.dispose()
    RESULT.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
