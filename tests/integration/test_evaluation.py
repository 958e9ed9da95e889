"""`hybridsearch eval` on a collection of five documents: the figures of each leg, and nothing is left behind.

A question is prose: what stands in quotation marks is no phrase that a document must have.
"""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, func, inspect, select, text

from hybridsearch import Encoding
from hybridsearch.errors import EncoderError
from hybridsearch.evaluation import evaluate
from tests.support.command_line import run
from tests.support.encoders import BrokenEncoder, WordHashEncoder

DOCUMENTS = ["red chair", "blue table", "oak shelf", "garden bench", "red red sofa"]
QUERIES = {"one": "chair", "two": 'a "round table"', "three": "red"}
GRADES = {("one", "1"): 2, ("two", "2"): 1, ("three", "5"): 2, ("three", "1"): 1}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as file:
        for number, words in enumerate(DOCUMENTS, 1):
            file.write(json.dumps({"id": str(number), "title": "", "text": words}) + "\n")
    queries = [json.dumps({"id": key, "text": words}) for key, words in QUERIES.items()]
    (tmp_path / "queries.jsonl").write_text("\n".join(queries))
    grades = [f"{query}\t{document}\t{grade}" for (query, document), grade in GRADES.items()]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query_id\tdoc_id\tgrade", *grades]))
    return tmp_path


def everything(engine: Engine) -> dict[str, Any]:
    """The schemas and extensions of a database, and the rows of all tables that are ours."""
    ours = MetaData(schema="hybridsearch")
    with engine.connect() as connection:
        ours.reflect(connection)
        counts = {name: connection.scalar(select(func.count()).select_from(one)) for name, one in ours.tables.items()}
        extensions = set(connection.scalars(text("select extname from pg_extension")))
        return {"schemas": inspect(connection).get_schema_names(), "rows": counts, "extensions": extensions}


@pytest.fixture(params=["database", "bare_database"])
def empty(request: pytest.FixtureRequest) -> Any:
    """An engine on a database that has our schema, and on one that has nothing."""
    engine = create_engine(request.getfixturevalue(request.param))
    yield engine
    engine.dispose()


def test_a_collection_that_was_measured_leaves_nothing_behind(empty: Engine, collection: Path) -> None:
    before = everything(empty)
    found = {one.system: one for one in evaluate(empty, collection, encoder=WordHashEncoder())}
    assert found.keys() == {"dense", "lexical", "fused"}
    assert (found["lexical"].ndcg, found["lexical"].recall, found["lexical"].mrr) == (1, 1, 1)
    assert found["lexical"].queries == 3
    assert everything(empty) == before


def test_one_that_could_not_be_measured_leaves_nothing_either(empty: Engine, collection: Path) -> None:
    before = everything(empty)
    with pytest.raises(EncoderError):
        evaluate(empty, collection, encoder=BrokenEncoder("raises"))
    assert everything(empty) == before


@pytest.mark.parametrize("empty", ["bare_database"], indirect=True)
def test_what_somebody_uses_by_then_stays(empty: Engine, collection: Path) -> None:
    class Slow(WordHashEncoder):
        def encode_documents(self, texts: Sequence[str]) -> Encoding:
            with empty.begin() as connection:
                connection.execute(text("create table points (place vector(2))"))
            return super().encode_documents(texts)

    before = everything(empty)
    evaluate(empty, collection, encoder=Slow())
    assert everything(empty) == before | {"extensions": before["extensions"] | {"vector"}}


def test_the_command_prints_the_figures_as_json(database: URL, collection: Path) -> None:
    done = run("eval", "--dataset", str(collection), "--json", database=database)
    assert (done.returncode, done.stderr) == (0, "")
    found = {one["system"]: one for one in json.loads(done.stdout)}
    assert found.keys() == {"dense", "lexical", "fused"}
    assert found["lexical"] == {"system": "lexical", "ndcg": 1, "recall": 1, "mrr": 1, "queries": 3}
    assert found["dense"]["recall"] == 1
