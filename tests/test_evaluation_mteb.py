"""mteb itself runs our systems and embedders on tasks of ten pages; its numbers are ours, and those by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import datasets
import mteb
import numpy as np
import pytest
from drawn_sets import RedEmbedder, picture, write_mmdocir, write_mteb_default, write_mteb_languages, write_table
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.models_protocols import EncoderProtocol, SearchProtocol

from visrag_integrations import load_embedder
from visrag_integrations.errors import SettingError
from visrag_integrations.evaluation import evaluate_retrieval, index_pages, load_evaluation_set
from visrag_integrations.evaluation.mteb import MtebEmbedder, MtebSystem
from visrag_integrations.retrieval import PageReranker, PageRetriever
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import Page, Query

# See test_evaluation_layouts: three questions, whose right pages are at ranks 1 and 6, 3, and 2.
NDCG = ((1 + 2 / math.log2(7)) / (2 + 1 / math.log2(3)) + 1 / math.log2(4) + 1 / math.log2(3)) / 3
MRR = (1 + 1 / 3 + 1 / 2) / 3


# No two of them are equally near a question: pages with equal scores come in the order of their ids.
SENTENCES = [
    "The harbour holds forty sailing boats and a ferry.", "Sourdough bread bakes for fifty minutes in a hot oven.",
    "The carpenter was paid by the village council.", "Anchors weigh two hundred pounds.",
    "A rye loaf takes longer than wheat, almost two hours.", "Nobody knows who built the old lighthouse.",
    "Ferries leave every morning at seven.", "The council met twice in March.", "Salt is paid for by the sack.",
    "Boats are painted in spring.",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def task(folder: Path, subsets: list[str] | None = None, split: str = "test") -> AbsTaskRetrieval:
    """A task of mteb's over a folder, which it loads with its own code."""
    languages: Any = ["eng-Latn"]
    if subsets is not None:
        languages = {subset: ["eng-Latn"] for subset in subsets}

    class Drawn(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="DrawnRetrieval",
            description="Ten pages.",
            dataset={"path": str(folder), "revision": "main"},
            type="DocumentUnderstanding",
            category="t2i",
            eval_splits=[split],
            eval_langs=languages,
            main_score="ndcg_at_10",
            modalities=["text", "image"],
            reference=None, date=None, domains=None, task_subtypes=None, license=None, annotations_creators=None,
            dialect=None, sample_creation=None, bibtex_citation=None,
        )  # fmt: skip

    return Drawn()


def run(model: Any, over: AbsTaskRetrieval, folder: Path) -> dict[str, Any]:
    """Subset -> scores, as mteb wrote them into its result file."""
    cache = mteb.ResultCache(cache_path=folder)
    mteb.evaluate(model, over, cache=cache, show_progress_bar=False, co2_tracker=False)
    (written,) = folder.rglob("DrawnRetrieval.json")
    scores = json.loads(written.read_text(encoding="utf-8"))["scores"]
    return {each["hf_subset"]: each for rows in scores.values() for each in rows}


def in_memory(corpus: str) -> PageRetriever:
    return PageRetriever(RedEmbedder(), QdrantPageStore(":memory:"), mode="dense")


def test_a_system_has_the_same_number_in_mteb_as_here(tmp_path: Path) -> None:
    folder = write_mteb_default(tmp_path / "set")
    system = MtebSystem("me/red", in_memory, revision="1", progress=False)
    assert isinstance(system, SearchProtocol)
    assert not isinstance(system, EncoderProtocol)
    theirs = run(system, task(folder), tmp_path / "results")["default"]
    assert theirs["ndcg_at_10"] == pytest.approx(NDCG, abs=1e-5)  # mteb rounds to five places
    assert theirs["main_score"] == theirs["ndcg_at_10"]
    assert theirs["mrr_at_10"] == pytest.approx(MRR, abs=1e-5)

    dataset, retriever = load_evaluation_set(folder), in_memory("")
    index_pages(dataset.pages, retriever.embedder, retriever.store, progress=False)
    ours = evaluate_retrieval(dataset, retriever, ["ndcg@10", "mrr@10", "recall@5"], progress=False)
    for metric in ("ndcg", "mrr"):
        assert theirs[f"{metric}_at_10"] == pytest.approx(ours.metrics[f"{metric}@10"], abs=1e-5)
    assert theirs["recall_at_5"] == pytest.approx(ours.metrics["recall@5"], abs=1e-5)


def test_the_result_file_says_what_was_measured(tmp_path: Path) -> None:
    folder = write_mteb_default(tmp_path / "set")
    run(MtebSystem("me/red", in_memory, revision="2026-11", progress=False), task(folder), tmp_path / "results")
    (meta,) = (tmp_path / "results").rglob("model_meta.json")
    kept = json.loads(meta.read_text(encoding="utf-8"))
    assert (kept["name"], kept["revision"], kept["modalities"]) == ("me/red", "2026-11", ["text", "image"])
    assert meta.parent.name == "2026-11"


def test_each_language_is_a_corpus(tmp_path: Path) -> None:
    folder = write_mteb_languages(tmp_path / "set")
    built: list[str] = []

    def build(corpus: str) -> PageRetriever:
        built.append(corpus)
        return PageRetriever(RedEmbedder(), QdrantPageStore(tmp_path / "store", collection=corpus), mode="dense")

    system = MtebSystem("me/red", build, revision="1", progress=False)
    theirs = run(system, task(folder, ["english", "french"]), tmp_path / "results")
    assert built == ["DrawnRetrieval-english-test", "DrawnRetrieval-french-test"]
    assert theirs["french"]["ndcg_at_10"] == pytest.approx(1 / math.log2(3), abs=1e-5)
    assert theirs["english"]["mrr_at_10"] == pytest.approx((1 + 1 / 3) / 2, abs=1e-5)


def test_candidates_are_those_of_mteb(tmp_path: Path) -> None:
    folder = write_mmdocir(tmp_path / "set")
    over = task(folder, ["laws", "news"], "train")
    theirs = run(MtebSystem("me/red", in_memory, revision="1", progress=False), over, tmp_path / "results")
    # Page 5 is the nearest of the candidates in both.
    assert [theirs[subset]["mrr_at_1"] for subset in ("laws", "news")] == [1, 1]
    dataset = load_evaluation_set(folder, subset="laws")
    retriever = in_memory("")
    index_pages(dataset.pages, retriever.embedder, retriever.store, progress=False)
    assert evaluate_retrieval(dataset, retriever, ["mrr@1"], progress=False).metrics == {"mrr@1": 1}


class ManyVectors(RedEmbedder):
    """Late interaction: the vector of `RedEmbedder`, and, of pages, a second one that no question is near."""

    name = "many"
    kind: Literal["multi"] = "multi"  # type: ignore[assignment]

    def embed_pages(self, pages: Iterable[Page]) -> list[Any]:
        return [np.stack([vector, -vector][: 1 + place % 2]) for place, vector in enumerate(super().embed_pages(pages))]

    def embed_queries(self, queries: Iterable[str | Query]) -> list[Any]:
        return [vector[np.newaxis] for vector in super().embed_queries(queries)]


@pytest.mark.parametrize("embedder", [RedEmbedder(), ManyVectors()])
def test_an_embedder_is_searched_by_mteb_itself(embedder: Any, tmp_path: Path) -> None:
    folder = write_mteb_default(tmp_path / "set")
    model = MtebEmbedder(embedder, name="me/red", revision="1")
    assert isinstance(model, EncoderProtocol)
    assert not isinstance(model, SearchProtocol)
    theirs = run(model, task(folder), tmp_path / "results")["default"]
    assert theirs["ndcg_at_10"] == pytest.approx(NDCG, abs=1e-5)
    ranked = run(model, task(write_mmdocir(tmp_path / "m"), ["laws", "news"], "train"), tmp_path / "ranked")
    assert ranked["laws"]["mrr_at_1"] == 1


def test_pairs_are_scored_too() -> None:
    single, multi = MtebEmbedder(RedEmbedder()), MtebEmbedder(ManyVectors())
    vectors = RedEmbedder().embed_queries(["near 0", "near 5"])
    assert single.similarity_pairwise(vectors, vectors) == pytest.approx([1, 1])
    assert single.similarity(vectors, vectors) == pytest.approx(
        np.array([[1, math.cos(0.5)], [math.cos(0.5), 1]]), abs=1e-6
    )
    queries = ManyVectors().embed_queries(["near 0", "near 5"])
    assert multi.similarity(queries, queries)[0] == pytest.approx([1, math.cos(0.5)], abs=1e-6)


def test_the_default_without_a_gpu_as_a_system(tmp_path: Path) -> None:
    """The `ocr` embedder, hybrid: the pages have texts, as in mteb's tasks with OCR text beside the picture."""
    folder = write_mteb_default(tmp_path / "set")
    corpus = [{"id": f"d{place}", "image": picture(place), "text": text} for place, text in enumerate(SENTENCES)]
    write_table(folder / "corpus", corpus)
    asked = ["how many boats are in the harbour", "which bread bakes longest", "who paid the carpenter"]
    write_table(folder / "queries", [{"id": f"q{place}", "text": text} for place, text in enumerate(asked)])
    embedder = load_embedder("ocr")

    def build(corpus: str) -> PageRetriever:
        return PageRetriever(embedder, QdrantPageStore(tmp_path / "store", collection=corpus))

    theirs = run(MtebSystem("me/ocr", build, revision="1", progress=False), task(folder), tmp_path / "results")
    dataset = load_evaluation_set(folder)
    retriever = build("ours")
    index_pages(dataset.pages, embedder, retriever.store, progress=False)
    ours = evaluate_retrieval(dataset, retriever, ["ndcg@10"], progress=False)
    assert theirs["default"]["ndcg_at_10"] == pytest.approx(ours.metrics["ndcg@10"], abs=1e-5)


def test_a_two_stage_system_fills_both_stores(tmp_path: Path) -> None:
    folder = write_mteb_default(tmp_path / "set")

    def build(corpus: str) -> PageRetriever:
        first = QdrantPageStore(tmp_path / "first", collection=corpus)
        second = QdrantPageStore(tmp_path / "second", collection=corpus)
        return PageRetriever(
            load_embedder("ocr"), first, mode="dense", reranker=PageReranker(ManyVectors(), second), candidates=10
        )

    system = MtebSystem("me/two", build, revision="1", top_k=10, progress=False)
    # Every page is a candidate, so the order is that of the second stage.
    assert run(system, task(folder), tmp_path / "results")["default"]["ndcg_at_10"] == pytest.approx(NDCG, abs=1e-5)


def test_a_store_with_other_pages_is_refused(tmp_path: Path) -> None:
    store = QdrantPageStore(":memory:")

    def build(corpus: str) -> PageRetriever:
        return PageRetriever(RedEmbedder(), store, mode="dense")

    system = MtebSystem("me/red", build, revision="1", progress=False)
    over = task(write_mmdocir(tmp_path / "set"), ["laws", "news"], "train")
    with pytest.raises(SettingError, match=r"Let build\(name\) give each corpus a collection of its own"):
        run(system, over, tmp_path / "results")


def test_searching_before_a_corpus_is_there() -> None:
    with pytest.raises(SettingError, match="nothing to search"):
        MtebSystem("me/red", in_memory, revision="1").search(datasets.Dataset.from_list([]), top_k=1)
