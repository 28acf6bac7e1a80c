"""A fused search that looks again only where it must: the same pages as when every score is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import FusedSearch, VectorSearch
from visrag_integrations.store.fusing import fuse

NONE = np.zeros(1, np.float32)


class Scored:
    """An engine whose points' scores are known; a point may lack one."""

    def __init__(self, dense: Mapping[str, float], lexical: Mapping[str, float]) -> None:
        self.halves = {"page": dense, "text": lexical}
        self.asked_again: list[tuple[str, int]] = []

    def scores(self, half: VectorSearch) -> dict[str, float]:
        by_score = sorted(self.halves[half.name].items(), key=lambda item: (-item[1], item[0]))
        return dict(by_score[: half.limit])

    def scores_of(self, half: VectorSearch, ids: Sequence[str]) -> dict[str, float]:
        self.asked_again.append((half.name, len(ids)))
        known = self.halves[half.name]
        return {id_: known[id_] for id_ in ids if id_ in known}


def by_all_scores(engine: Scored, search: FusedSearch) -> list[tuple[str, float]]:
    """What either half proposes, with both scores of each."""
    proposed = {**engine.scores(search.dense), **engine.scores(search.lexical)}
    found = []
    for id_ in proposed:
        cosine = max(0.0, engine.halves["page"].get(id_, 0.0))
        points = search.factors[1] * engine.halves["text"].get(id_, 0.0)
        found.append((id_, search.factors[0] * cosine + points**2))
    return sorted(found, key=lambda item: (-item[1], item[0]))[: search.limit]


def search_for(proposed: int, limit: int, *, all_compared: bool) -> FusedSearch:
    halves = VectorSearch("page", NONE, proposed), VectorSearch("text", NONE, proposed)
    return FusedSearch(*halves, (1.0, 1 / 9), limit, all_compared)


@pytest.mark.parametrize("all_compared", [True, False])
@pytest.mark.parametrize("proposed", [1, 5, 20, 200])
def test_the_best_are_those_of_all_scores(proposed: int, *, all_compared: bool) -> None:
    drawn = random.Random(proposed)
    for limit in (1, 3, 5, 40):
        for _ in range(60):
            ids = [f"p{number:03}" for number in range(drawn.randint(0, 120))]
            dense = {id_: drawn.uniform(-0.3, 1.0) for id_ in ids if drawn.random() < 0.9}
            words = {id_: drawn.expovariate(0.3) for id_ in ids if drawn.random() < drawn.random()}
            engine = Scored(dense, words)
            search = search_for(proposed, limit, all_compared=all_compared)
            found = [(point.id, point.score) for point in fuse(engine, search)]
            wanted = by_all_scores(engine, search)
            assert [id_ for id_, _ in found] == [id_ for id_, _ in wanted]
            assert [score for _, score in found] == pytest.approx([score for _, score in wanted])


def test_a_page_that_is_best_by_both_though_first_in_neither_is_found() -> None:
    dense = {f"v{number}": 0.5 for number in range(5)} | {"both": 0.45} | {f"w{number}": 0.0 for number in range(5)}
    words = {f"w{number}": 6.0 for number in range(5)} | {"both": 5.9}
    best = fuse(Scored(dense, words), search_for(6, 1, all_compared=True))
    assert [point.id for point in best] == ["both"]


def test_a_page_that_an_inexact_search_missed_still_gets_its_score() -> None:
    """The dense half does not find the nearest page, as a graph may not; its words bring it in."""
    engine = Scored({"near": 0.99, "a": 0.5, "b": 0.4}, {"near": 1.0})
    missed = {"a": 0.5, "b": 0.4}
    real = engine.scores
    engine.scores = lambda half: dict(missed) if half.name == "page" else real(half)  # type: ignore[method-assign]
    best = fuse(engine, search_for(2, 1, all_compared=False))
    assert [(point.id, round(point.score, 3)) for point in best] == [("near", round(0.99 + (1 / 9) ** 2, 3))]


def test_equal_pages_come_by_their_ids_and_all_are_candidates() -> None:
    engine = Scored({"c": 0.5, "a": 0.5, "b": 0.5}, {})
    assert [point.id for point in fuse(engine, search_for(3, 2, all_compared=True))] == ["a", "b"]


def test_equal_pages_of_an_engine_whose_ids_are_numbers_come_by_these() -> None:
    engine = Scored({9: 0.5, 10: 0.5, 11: 0.5}, {})  # type: ignore[dict-item]
    assert [point.id for point in fuse(engine, search_for(3, 2, all_compared=True))] == [9, 10]


def test_few_are_asked_for_again() -> None:
    """A hundred of each half, and two pages that have the words and are near: nobody else can come before them."""
    dense = {f"v{number:03}": 0.3 - number / 1000 for number in range(100)} | {"x": 0.6, "y": 0.5}
    words = {f"w{number:03}": 2.0 - number / 100 for number in range(100)} | {"x": 9.0, "y": 8.0}
    engine = Scored(dense, words)
    assert [point.id for point in fuse(engine, search_for(100, 2, all_compared=True))] == ["x", "y"]
    assert engine.asked_again == []


@pytest.mark.parametrize("kind", ["single", "multi"])
def test_a_folder_gives_what_the_formula_says(tmp_path: Path, kind: str) -> None:
    """Against the cosines and the BM25 points of all pages, fused here."""
    drawn = np.random.default_rng(7)
    vocabulary = [f"word{number}" for number in range(40)]
    pages, vectors = [], []
    for number in range(1, 301):
        words = drawn.choice(vocabulary, drawn.integers(3, 30))
        pages.append(Page("d", number, text=" ".join(words)))
        vectors.append(drawn.standard_normal((drawn.integers(1, 6), 16) if kind == "multi" else 16).astype(np.float32))

    class Given:
        name, dimension = "given", 16

        def __init__(self) -> None:
            self.kind = kind

    with QdrantPageStore(tmp_path / "index", pictures=False, candidates=30) as store:
        store.prepare(Given())  # type: ignore[arg-type]
        store.add_pages(pages, vectors)
        for text in ("word1 word2", "word3", "word4 word5 word6 word7 word8", "nowhere word9"):
            shape = (2, 16) if kind == "multi" else (16,)
            query = drawn.standard_normal(shape).astype(np.float32)
            everything = {"top_k": 300}
            near = {hit.page.id: hit.score for hit in store.search(query, **everything)}  # type: ignore[arg-type]
            if kind == "multi":
                near = {id_: score / 2 for id_, score in near.items()}
            points = {hit.page.id: hit.score for hit in store.search(None, text=text, mode="lexical", top_k=300)}
            proposed = {*list(near)[:30], *list(points)[:30]}
            fused = lexical.fuse(near, points, text)
            wanted = sorted(proposed, key=lambda id_: (-fused[id_], id_))[:5]
            hits = store.search(query, text=text, mode="hybrid", top_k=5)
            assert [hit.page.id for hit in hits] == wanted
            assert [hit.score for hit in hits] == pytest.approx([fused[id_] for id_ in wanted], abs=1e-4)
            assert all(hit.page.text for hit in hits)
