"""Quality on judged collections. They state no licence: used in place, and skipped where they are absent."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from hybridsearch.errors import ConfigurationError
from hybridsearch.evaluation import evaluate

COLLECTIONS = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.skipif(
    not COLLECTIONS.is_dir(), reason="the Cranfield collection is not part of the project: ../shared/data"
)
def test_hybrid_beats_each_leg_on_cranfield_and_leaves_nothing_behind(engine: Engine) -> None:
    schemas = inspect(engine).get_schema_names()
    quality = {one.system: one.ndcg for one in evaluate(engine, COLLECTIONS / "cranfield")}
    assert quality["fused"] > max(quality["dense"], quality["lexical"])
    assert quality["lexical"] > 0.50
    assert quality["dense"] > 0.48
    assert quality["fused"] > 0.54
    assert inspect(engine).get_schema_names() == schemas


def test_a_folder_without_a_collection_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"corpus\.jsonl\.gz"):
        evaluate(engine, tmp_path)
