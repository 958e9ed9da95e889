"""The files around the code say what is so."""

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_compose_file_has_a_healthy_database_an_app_and_a_named_volume() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    database, app = compose["services"]["database"], compose["services"]["app"]
    assert database["image"] == "pgvector/pgvector:pg17"
    assert all("healthcheck" in service for service in (database, app))
    assert app["depends_on"]["database"]["condition"] == "service_healthy"
    assert {volume.split(":")[0] for volume in database["volumes"]} <= set(compose["volumes"])
    assert (ROOT / app["build"]["context"] / app["build"]["dockerfile"]).is_file()


def test_the_shop_has_2000_products_and_their_licence() -> None:
    data = ROOT / "examples" / "shop" / "data"
    with gzip.open(data / "products.jsonl.gz", "rt", encoding="utf-8") as file:
        products = [json.loads(line) for line in file]
    assert len(products) == len({product["id"] for product in products}) == 2000
    assert "Open Content License" in (data / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert all((ROOT / link).exists() for link in links if "://" not in link)
