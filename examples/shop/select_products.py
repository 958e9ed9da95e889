"""How data/ was made from the Icecat part of Chorus: every product judged relevant, filled up to 2,000 at random.

python examples/shop/select_products.py FOLDER      # with corpus.jsonl.gz, queries.jsonl, qrels.tsv
"""

import csv
import gzip
import json
import random
import shutil
import sys
from pathlib import Path

PRODUCTS = 2000
HERE = Path(__file__).parent / "data"


def main(folder: Path) -> None:
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        corpus = [json.loads(line) for line in file]
    with (folder / "qrels.tsv").open(encoding="utf-8") as file:
        judgements = list(csv.DictReader(file, delimiter="\t"))
    relevant = {row["doc_id"] for row in judgements if int(row["grade"]) > 0}
    others = [row["id"] for row in corpus if row["id"] not in relevant]
    chosen = relevant | set(random.Random(0).sample(others, PRODUCTS - len(relevant)))
    HERE.mkdir(exist_ok=True)
    with gzip.GzipFile(HERE / "products.jsonl.gz", "wb", mtime=0) as file:
        for row in corpus:
            if row["id"] in chosen:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    with (HERE / "qrels.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["query_id", "doc_id", "grade"], delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in judgements if row["doc_id"] in chosen)
    shutil.copyfile(folder / "queries.jsonl", HERE / "queries.jsonl")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
