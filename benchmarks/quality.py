"""Quality on judged collections, beside bm25s, as docs/quality.md.

    python benchmarks/quality.py DATA [collection …]       # DATA holds one folder a collection; DATABASE_URL the server

bm25s runs with Lucene's formula over Porter stems (character bigrams for Chinese), on the same queries.
"""

import os
import sys
from pathlib import Path

import bm25s
import ir_measures
import Stemmer
from ir_measures import RR, R, nDCG

from hybridsearch.application import connect
from hybridsearch.evaluation import Collection, Quality, evaluate, read_collection

DOCUMENT = Path(__file__).parents[1] / "docs" / "quality.md"
CONFIGS = {"cmrc2018": "simple"}
COLLECTIONS = ("scifact", "cranfield", "npl", "cisi", "cmrc2018", "icecat-chorus")


def baseline(collection: Collection, config: str) -> Quality:
    """nDCG@10, recall@100 and MRR of bm25s on a collection."""
    documents = list(collection.documents())
    texts = [f"{row['title']} {row['text']}" for row in documents]
    queries = {key: collection.queries[key] for key in collection.judgements}
    if config == "simple":
        split = [[text[i : i + 2] for i in range(len(text) - 1)] for text in texts]
        asked = [[text[i : i + 2] for i in range(len(text) - 1)] for text in queries.values()]
    else:
        stemmer = Stemmer.Stemmer("porter")
        options = {"stopwords": "en", "stemmer": stemmer, "show_progress": False, "return_ids": False}
        split, asked = bm25s.tokenize(texts, **options), bm25s.tokenize(list(queries.values()), **options)
    index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    index.index(split, show_progress=False)
    run = {}
    for key, words in zip(queries, asked, strict=True):
        known = [word for word in words if word in index.vocab_dict]
        if known:
            found, scores = index.retrieve([known], k=min(100, len(documents)), show_progress=False)
            run[key] = {
                documents[i]["id"]: float(score) for i, score in zip(found[0], scores[0], strict=True) if score > 0
            }
        else:
            run[key] = {}
    judged = {q: grades for q, grades in collection.judgements.items() if any(grade > 0 for grade in grades.values())}
    measured = ir_measures.calc_aggregate([nDCG @ 10, R @ 100, RR], judged, run)
    return Quality("bm25s", measured[nDCG @ 10], measured[R @ 100], measured[RR], len(judged))


def main(data: Path, names: list[str]) -> None:
    engine = connect(os.environ.get("DATABASE_URL", "embedded:.demo"))
    lines = []
    for name in names:
        config = CONFIGS.get(name, "english")
        found = {one.system: one for one in evaluate(engine, data / name, config=config)}
        other = baseline(read_collection(data / name), config)
        cells = [f"{one.ndcg:.3f} / {one.recall:.3f} / {one.mrr:.3f}" for one in (other, *found.values())]
        lines.append(f"| {name} | {other.queries} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        heading = ["collection", "judged queries", "bm25s", *found]
    DOCUMENT.write_text(TEXT + "\n".join([f"| {' | '.join(heading)} |", "|---" * len(heading) + "|", *lines]) + "\n")


TEXT = """# Quality

nDCG@10 / recall@100 / MRR with default settings (BM25 k1 1.2, b 0.75; RRF k 60, 100 candidates a leg) and the bundled
encoder `minilm`, which reads English alone. bm25s, an established BM25 in process, ran on the same queries, over Porter
stems with an English stop list (character bigrams for Chinese). Made by `make quality DATA=<folder of collections>`;
one collection: `hybridsearch eval --dataset <folder>`.

"""


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(COLLECTIONS))
