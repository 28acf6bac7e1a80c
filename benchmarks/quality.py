"""How often the right page is found: MRR@10 and Recall@5 by kind of query for each search mode, and what is chance.

    python benchmarks/quality.py --documents DIR --queries FILE... [--index DIR] [--embedder ocr] [--text-model FOLDER]
    python benchmarks/quality.py ... --runs DIR                    # keeps what was found
    python benchmarks/quality.py ... --compare DIR                 # beside what another state of this library found

The way of the command line is taken: `index_documents` into a store, `PageRetriever` out of it, every document in one
index. A query file has one JSON object a line: `query`, `source` (file name), `page` (from 1), `kind`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from visrag_integrations import PageRetriever, QdrantPageStore, index_documents, load_embedder
from visrag_integrations.evaluation import (
    EvaluationResult,
    EvaluationSet,
    compare,
    evaluate_retrieval,
    evaluate_run,
    load_evaluation_set,
    read_run,
    write_run,
)
from visrag_integrations.evaluation.results import comparison_table

MODES = ("dense", "lexical", "hybrid")


def print_missed(dataset: EvaluationSet, result: EvaluationResult) -> None:
    for question in dataset.questions:
        if not result.per_query[question.id]["recall@5"]:
            print(f"missed: {', '.join(dataset.qrels[question.id])}: {question.text[:80]}")


def print_comparison(dataset: EvaluationSet, result: EvaluationResult, run: Path) -> None:
    before = evaluate_run(read_run(run), dataset.qrels, list(result.metrics))
    print(f"\n{comparison_table(compare(result.per_query, before), 'hybrid', str(run.parent))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", required=True, type=Path)
    parser.add_argument("--queries", required=True, type=Path, nargs="+")
    parser.add_argument("--index", type=Path, help="kept for the next run; a temporary folder when not given")
    parser.add_argument("--embedder", default="ocr")
    parser.add_argument("--text-model", help="for the embedder ocr: a text model of sentence-transformers")
    parser.add_argument("--runs", type=Path, help="a folder for the TREC runs of hybrid search, one a query file")
    parser.add_argument(
        "--compare", type=Path, help="such a folder, of another state: a paired test for each query file"
    )
    parser.add_argument("--missed", action="store_true", help="list what hybrid search did not find in its first five")
    options = parser.parse_args()
    settings = {"text_model": options.text_model} if options.text_model else {}
    embedder = load_embedder(options.embedder, **settings)
    with tempfile.TemporaryDirectory() as folder, QdrantPageStore(options.index or Path(folder) / "index") as store:
        report = index_documents([options.documents], store=store, embedder=embedder)
        print(f"{report.pages} pages, {len(report.failed)} failed, {report.seconds:.1f} s to index")
        retriever = PageRetriever(embedder, store)
        for dataset in map(load_evaluation_set, options.queries):
            results = {mode: evaluate_retrieval(dataset, retriever, mode=mode) for mode in MODES}
            for result in results.values():
                print(f"\n{result}\n{result.seconds / len(result.per_query) * 1000:.1f} ms a query")
            print(f"\n{comparison_table(results['hybrid'].compare(results['lexical']), 'hybrid', 'lexical')}")
            file = f"{dataset.name}.trec"
            if options.runs:
                options.runs.mkdir(parents=True, exist_ok=True)
                write_run(results["hybrid"].run, options.runs / file)
            if options.compare:
                print_comparison(dataset, results["hybrid"], options.compare / file)
            if options.missed:
                print_missed(dataset, results["hybrid"])


if __name__ == "__main__":
    main()
