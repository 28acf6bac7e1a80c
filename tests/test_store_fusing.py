"""A fused search that looks again only where it must: the same pages as when every score is known."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from visrag_integrations import Page, QdrantPageStore
from visrag_integrations.scores import lexical
from visrag_integrations.store import edge_answers
from visrag_integrations.store.engine import FusedSearch, VectorSearch
from visrag_integrations.store.fusing import fuse

NONE = np.zeros(1, np.float32)


class Scored:
    """An engine whose points' scores are known; a point may lack one."""

    def __init__(self, dense: Mapping[str, float], lexical: Mapping[str, float]) -> None:
        self.halves = {"page": dense, "text": lexical}
        self.looked_at: list[tuple[str, int]] = []
        self.asked_again: list[tuple[str, int]] = []

    def scores(self, half: VectorSearch, limit: int) -> dict[str, float]:
        self.looked_at.append((half.name, limit))
        by_score = sorted(self.halves[half.name].items(), key=lambda item: (-item[1], item[0]))
        return dict(by_score[:limit])

    def scores_of(self, half: VectorSearch, ids: Sequence[str]) -> dict[str, float]:
        self.asked_again.append((half.name, len(ids)))
        known = self.halves[half.name]
        return {id_: known[id_] for id_ in ids if id_ in known}


def by_all_scores(engine: Scored, search: FusedSearch) -> list[tuple[str, float]]:
    """What either half proposes, with both scores of each."""
    proposed: dict[str, float] = {}
    for half in (search.dense, search.lexical):
        proposed |= engine.scores(half, half.limit)
    found = []
    for id_ in proposed:
        cosine = max(0.0, engine.halves["page"].get(id_, 0.0))
        points = search.factors[1] * engine.halves["text"].get(id_, 0.0)
        found.append((id_, search.factors[0] * cosine + points**2))
    return sorted(found, key=lambda item: (-item[1], item[0]))[: search.limit]


def search_for(proposed: int, limit: int, *, all_compared: bool) -> FusedSearch:
    halves = VectorSearch("page", NONE, proposed), VectorSearch("text", NONE, proposed)
    return FusedSearch(*halves, (1.0, 1 / 9), limit, all_compared)


@pytest.mark.parametrize("look_first", [True, False])
@pytest.mark.parametrize("all_compared", [True, False])
@pytest.mark.parametrize("proposed", [1, 5, 20, 200])
def test_the_best_are_those_of_all_scores(proposed: int, *, all_compared: bool, look_first: bool) -> None:
    drawn = random.Random(proposed)
    for limit in (1, 3, 5, 40):
        for _ in range(60):
            ids = [f"p{number:03}" for number in range(drawn.randint(0, 120))]
            dense = {id_: drawn.uniform(-0.3, 1.0) for id_ in ids if drawn.random() < 0.9}
            words = {id_: drawn.expovariate(0.3) for id_ in ids if drawn.random() < drawn.random()}
            engine = Scored(dense, words)
            search = search_for(proposed, limit, all_compared=all_compared)
            found = [(point.id, point.score) for point in fuse(engine, search, look_first=look_first)]
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
    engine.scores = lambda half, limit: dict(missed) if half.name == "page" else real(half, limit)  # type: ignore[method-assign]
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


def test_a_first_look_is_enough_where_nobody_behind_it_can_come_before() -> None:
    dense = {f"v{number:03}": 0.3 - number / 1000 for number in range(100)} | {"x": 0.6, "y": 0.5}
    words = {f"w{number:03}": 2.0 - number / 100 for number in range(100)} | {"x": 9.0, "y": 8.0}
    engine = Scored(dense, words)
    fuse(engine, search_for(100, 2, all_compared=True), look_first=True)
    assert engine.looked_at == [("page", 16), ("text", 16)]


def test_a_page_behind_the_first_look_in_both_halves_is_found() -> None:
    """Of a hundred nearly as near and a hundred with nearly as good words, one is both."""
    dense = {f"v{number:03}": 0.5 - number / 10_000 for number in range(100)}
    words = {f"w{number:03}": 4.5 - number / 10_000 for number in range(100)}
    both = {"both": 0.496}, {"both": 4.496}
    engine = Scored(dense | both[0], words | both[1])
    best = fuse(engine, search_for(100, 1, all_compared=True), look_first=True)
    assert [(point.id, round(point.score, 3)) for point in best] == [("both", round(0.496 + (4.496 / 9) ** 2, 3))]
    assert engine.looked_at[2:] == [("page", 100), ("text", 100)]


def test_equal_pages_behind_the_first_look_come_by_their_ids_too() -> None:
    dense = {f"p{number:03}": 0.5 for number in range(60)}
    engine = Scored(dict(reversed(dense.items())), dense)
    best = fuse(engine, search_for(100, 2, all_compared=True), look_first=True)
    assert [point.id for point in best] == ["p000", "p001"]


def test_fewer_than_wanted_are_looked_for_once() -> None:
    engine = Scored({"a": 0.5, "b": -0.5}, {"c": 3.0})
    best = fuse(engine, search_for(100, 5, all_compared=True), look_first=True)
    assert [(point.id, round(point.score, 3)) for point in best] == [("a", 0.5), ("c", 0.111), ("b", 0.0)]
    assert len(engine.looked_at) == 2


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


DRAWN = 240
ASKED = ("word1 word2", "word3", "word4 word5 word6 word7 word8 word9", "nowhere word9", "nowhere")
KINDS: dict[str, dict[str, Any]] = {
    "single": {},
    "single float16": {"storage": "float16"},
    "single 8bit": {"storage": "8bit"},
    "single binary": {"quantization": "binary"},
    "single, none known to be compared": {},
    "single, not looked at first": {},
    "multi": {},
    "multi 8bit": {"storage": "8bit"},
    "multi pooled": {"pooling": "rows", "pooled_vectors": 2},
    "multi binary": {"quantization": "binary", "pooling": None},
}


def drawn_pages(drawn: np.random.Generator, kind: str) -> tuple[list[Page], list[Any]]:
    """Pages of two tenants: every sixth has no text, every fifth the vector and the words of another one."""
    pages: list[Page] = []
    vectors: list[Any] = []
    for number in range(1, DRAWN + 1):
        count = drawn.integers(1, 20) if number % 6 else 0
        text = " ".join(f"word{place}" for place in drawn.integers(0, 25, count))
        vector = drawn.standard_normal((2, 32) if kind == "multi" else 32).astype(np.float32)
        if number % 5 == 0:
            text, vector = pages[number // 2].text, vectors[number // 2]
        pages.append(Page("d", number, text=text, metadata={"year": 1990 + number % 3}, tenant="ab"[number % 2]))
        vectors.append(vector)
    return pages, vectors


@pytest.mark.parametrize("case", KINDS)
def test_every_way_to_keep_vectors_gives_what_the_formula_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Against the exact scores of all pages, fused here: filters, tenants, equal pages, few and many pages wanted."""
    if "none known" in case:
        monkeypatch.setattr(edge_answers, "_SCANNED_BYTES", 0)
    if "not looked at first" in case:
        monkeypatch.setattr(edge_answers, "_QUICK", 0)
    drawn = np.random.default_rng(11)
    kind = case.partition(" ")[0].rstrip(",")
    embedder = SimpleNamespace(name="given", dimension=32, kind=kind)
    with QdrantPageStore(tmp_path / "index", pictures=False, candidates=DRAWN, **KINDS[case]) as everybody:
        everybody.prepare(embedder)  # type: ignore[arg-type]
        everybody.add_pages(*drawn_pages(drawn, kind))
        stores = everybody, everybody.of_tenant("a")
        for store, text, only in product(stores, ASKED, (None, {"year": 1991}, {"year": 2020})):
            query = drawn.standard_normal((3, 32) if kind == "multi" else 32).astype(np.float32)
            words = store.search(None, text=text, mode="lexical", top_k=DRAWN, filter=only)
            near = store.score(query, [page.id for page in store.scroll(only)])
            if kind == "multi":
                near = {id_: score / 3 for id_, score in near.items()}
            fused = lexical.fuse(near, {hit.page.id: hit.score for hit in words}, text)
            for top_k in (1, 5, 50):
                hits = store.search(query, text=text, mode="hybrid", top_k=top_k, filter=only)
                check_best(fused, [(hit.page.id, hit.score) for hit in hits], top_k)


def check_best(fused: Mapping[str, float], found: Sequence[tuple[str, float]], top_k: int) -> None:
    """The best of all with their scores, equal ones by their ids."""
    wanted = sorted(fused.values(), reverse=True)[:top_k]
    assert [score for _, score in found] == pytest.approx(wanted, abs=1e-6)
    assert [score for _, score in found] == pytest.approx([fused[id_] for id_, _ in found], abs=1e-6)
    assert len({id_ for id_, _ in found}) == len(found)
    for (first, score), (second, next_score) in pairwise(found):
        assert score > next_score or first < second
    for id_, score in fused.items():
        if found and score == fused[found[-1][0]] and id_ not in dict(found):
            assert id_ > found[-1][0]
