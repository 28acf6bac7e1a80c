"""Late interaction in two passes: pooled vectors for candidates, all vectors to rank; how vectors are kept; RRF."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import opened, places, within_the_server

from visrag_integrations.errors import SettingError
from visrag_integrations.scores.exact import maxsims
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.pooling import pool
from visrag_integrations.types import Page

DIM = 32
Open = Callable[..., QdrantPageStore]


@dataclass
class Filler:
    name: str = "filler"
    kind: str = "multi"
    dimension: int = DIM
    pooling: str | None = None


@pytest.fixture(params=places("folder", "memory", "server", "strict"))
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    stores: list[QdrantPageStore] = []

    def open_again(**settings: Any) -> QdrantPageStore:
        settings.setdefault("pictures", False)
        if request.param == "strict" and not settings.get("pooling") and not stores:
            pytest.skip("without pooling, searches are exact: refused by name, as test_store_strict shows")
        stores.append(QdrantPageStore(place, **settings))
        with within_the_server():
            stores[-1].prepare(Filler())
        return stores[-1]

    with opened(request.param, tmp_path) as place:
        yield open_again
        for store in stores:
            store.close()


def patches(pages: int, seed: int = 0) -> list[np.ndarray]:
    """Vectors of pages as they are: neighbours are alike, pages have many or few."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(pages):
        topics = rng.standard_normal((6, DIM)).repeat(rng.integers(3, 12, 6), axis=0)
        made.append((topics + 0.5 * rng.standard_normal(topics.shape)).astype(np.float32))
    return made


def asked(page: np.ndarray, seed: int = 1, noise: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chosen = page[rng.choice(len(page), 5)]
    return (chosen + noise * rng.standard_normal(chosen.shape)).astype(np.float32)


def pages(count: int, **fields: Any) -> list[Page]:
    return [Page("d", n, source="d.pdf", **fields) for n in range(1, count + 1)]


def numbers(found: list[Any]) -> list[int]:
    return [hit.page.number for hit in found]


# --- pooling --------------------------------------------------------------------------------------------------------


def variance_within(unit: np.ndarray, groups: list[list[int]]) -> float:
    return sum(float(((unit[group] - unit[group].mean(axis=0)) ** 2).sum()) for group in groups)


def test_hierarchical_pooling_joins_what_adds_least_variance() -> None:
    """Against Ward's own definition, written out: every pair of groups is tried at every step."""
    rng = np.random.default_rng(4)
    unit = rng.standard_normal((14, 6)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    groups = [[place] for place in range(14)]
    while len(groups) > 5:
        tried = [
            (variance_within(unit, [a + b]) - variance_within(unit, [a]) - variance_within(unit, [b]), a, b)
            for a, b in combinations(groups, 2)
        ]
        _, one, other = min(tried, key=lambda entry: entry[0])
        groups = [group for group in groups if group not in (one, other)] + [one + other]
    expected = np.stack([unit[group].sum(axis=0) for group in groups])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = pool(unit, 5, "hierarchical")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], atol=1e-5)


def test_pooling_rows_takes_neighbours_together() -> None:
    found = pool(np.array([[2, 0], [1, 0], [0, 5], [0, 1], [3, 4]], np.float32), 2)
    np.testing.assert_allclose(found, [[1, 0], [0.6 / np.sqrt(7.2 + 0.36), 2.8 / np.sqrt(7.84 + 0.36)]], atol=0.02)


@pytest.mark.parametrize("method", ["rows", "hierarchical"])
def test_pooled_vectors_are_few_unit_and_finite(method: str) -> None:
    for count in (1, 3, 200):
        for vectors in (*patches(3), np.ones((20, DIM), np.float32), np.zeros((9, DIM), np.float32)):
            found = pool(vectors, count, method)
            assert found.dtype == np.float32
            assert 1 <= len(found) <= min(count, len(vectors))
            lengths = np.linalg.norm(found, axis=1)
            assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))


# --- two passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rows", "hierarchical"])
def test_two_passes_find_what_the_exact_search_finds(open_store: Open, method: str) -> None:
    store, given = open_store(pooling=method, pooled_vectors=8, candidates=20, storage="float32"), patches(150)
    store.add_pages(pages(150), given)
    for seed in range(10):
        query = asked(given[seed * 7], seed)
        expected = maxsims(query, given)
        found = store.search(query, top_k=5)
        assert found[0].page.number == seed * 7 + 1 == int(np.argmax(expected)) + 1
        for hit in found:
            assert hit.score == pytest.approx(expected[hit.page.number - 1], abs=1e-3)
        assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
        assert {hit.score_type for hit in found} == {"maxsim"}


def needle(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The last page has the query's own vector once, among noise that hides it when pooled into one."""
    rng = np.random.default_rng(8)
    query = np.eye(1, DIM, dtype=np.float32)
    given = [(query + 0.3 * rng.standard_normal((4, DIM))).astype(np.float32) for _ in range(count - 1)]
    hidden = np.concatenate([-np.repeat(query, 9, axis=0), query]).astype(np.float32)
    return [*given, hidden], query


def test_the_first_pass_is_over_pooled_vectors_and_has_the_candidates_it_was_told(open_store: Open) -> None:
    given, query = needle(12)
    store = open_store(pooling="rows", pooled_vectors=1, candidates=5)
    store.add_pages(pages(12), given)
    assert 12 not in numbers(store.search(query, top_k=1)), "its mean points the other way"
    wide = open_store(candidates=12)
    assert numbers(wide.search(query, top_k=1)) == [12]
    assert numbers(store.search(query, top_k=3))[0] == 12, "more pages asked for, more candidates"


def test_filters_hold_in_the_first_pass(open_store: Open) -> None:
    """Another tenant's pages fit so much better that they would be all the candidates."""
    given, query = patches(60), asked(patches(1)[0])
    near = [np.repeat(query, 3, axis=0) for _ in range(200)]
    store = open_store(pooling="rows", pooled_vectors=4, candidates=10)
    store.add_pages([Page("a", n, tenant="a", text="word") for n in range(1, 201)], near)
    store.add_pages([Page("b", n, tenant="b", text="word") for n in range(1, 61)], given)
    for mode in ("dense", "lexical", "hybrid"):
        found = store.search(query, text="word", top_k=7, mode=mode, filter={"tenant": "b"})
        assert {hit.page.tenant for hit in found} == {"b"}, mode
        assert len(found) == 7
    rest = store.search(query, top_k=200, filter={"$not": {"tenant": "a"}})
    assert {hit.page.tenant for hit in rest} == {"b"}
    assert len(rest) == 60


def test_pages_without_vectors_or_with_one_and_hybrid(open_store: Open) -> None:
    store = open_store(pooling="rows", pooled_vectors=2)
    given = [np.zeros((0, DIM), np.float32), *[v[:n] for n, v in enumerate(patches(4), 1)]]
    store.add_pages(pages(5, text="word"), given)
    assert sorted(numbers(store.search(asked(given[3]), top_k=9))) == [2, 3, 4, 5]
    assert sorted(numbers(store.search(asked(given[3]), text="word", mode="hybrid", top_k=9))) == [1, 2, 3, 4, 5]
    store.add_pages([Page("d", 3, text="other")], [np.zeros((0, DIM), np.float32)])  # loses its vectors
    assert sorted(numbers(store.search(asked(given[3]), top_k=9))) == [2, 4, 5]


def test_exact_scores_of_given_pages(open_store: Open) -> None:
    store, given = open_store(pooling="rows", pooled_vectors=1, storage="float32"), patches(30)
    listed = pages(30)
    store.add_pages(listed, given)
    query = asked(given[4])
    expected = maxsims(query, given)
    found = store.score(query, [listed[n].id for n in (3, 9, 3)] + [Page("unknown", 1).id])
    assert found == {listed[n].id: pytest.approx(expected[n], abs=1e-3) for n in (3, 9)}
    assert store.score(query, []) == {}
    assert store.score(np.zeros((0, DIM)), [listed[0].id]) == {}


# --- how vectors are kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("storage", "tolerance"), [("float32", 1e-5), ("float16", 1e-3), ("8bit", 0.02), ("compact", 0.2)]
)
def test_numbers_are_kept_as_asked(open_store: Open, storage: str, tolerance: float) -> None:
    store, given = open_store(storage=storage), patches(20)
    assert store.info is not None
    assert store.info.storage == storage
    store.add_pages(pages(20), given)
    query = asked(given[4])
    expected = maxsims(query, given)
    for hit in store.search(query, top_k=20):
        assert hit.score == pytest.approx(expected[hit.page.number - 1], abs=tolerance * len(query))
    kept = store.get_embeddings([pages(5)[4].id])[pages(5)[4].id]
    np.testing.assert_allclose(kept, given[4] / np.linalg.norm(given[4], axis=1, keepdims=True), atol=tolerance)


def test_a_compact_collection_joins_the_most_alike_vectors_of_large_pages(open_store: Open) -> None:
    """A page with every vector twice: what is joined are pairs, and nothing is lost."""
    store = open_store(pooling=None, storage="compact")
    rng = np.random.default_rng(3)
    once = rng.standard_normal((300, DIM)).astype(np.float32)
    twice = np.concatenate([once, once])[rng.permutation(600)]
    small = rng.standard_normal((576, DIM)).astype(np.float32)
    store.add_pages(pages(2), [twice, small])
    first, second = (page.id for page in pages(2))
    kept = store.get_embeddings([first, second])
    assert (len(kept[first]), len(kept[second])) == (576, 576)
    for vector in kept[first]:
        assert np.max(once @ vector / np.linalg.norm(once, axis=1)) > 0.9, "four bits; the mean of two has 0.7"
    assert store.get_embeddings([first, second], as_made=True) == {}, "576 may have been more"
    store.add_pages([Page("again", 1)], [kept[first]])
    again = store.get_embeddings([Page("again", 1).id])[Page("again", 1).id]
    np.testing.assert_allclose(again, kept[first], atol=0.02)
    store.add_pages([Page("few", 1)], [small[:9]])
    assert len(store.get_embeddings([Page("few", 1).id], as_made=True)[Page("few", 1).id]) == 9


def test_compact_collections_take_an_eighth_on_the_disk(disk_path: Path) -> None:
    """Of four bits a number and at most 576 of 750 vectors, with those of the first pass."""
    original = 0
    with QdrantPageStore(disk_path, pooling="rows", storage="compact", pictures=False) as store:
        store.prepare(Filler(dimension=128))
        rng = np.random.default_rng(5)
        for first in (1, 11):
            given = [rng.standard_normal((750, 128)).astype(np.float32) for _ in range(10)]
            original += sum(vectors.nbytes for vectors in given)
            store.add_pages([Page("d", number) for number in range(first, first + 10)], given)
        files = [*disk_path.rglob("vector_storage-patches/**/*"), *disk_path.rglob("vector_storage-pooled/**/*")]
        taken = sum(file.stat().st_blocks * 512 for file in files if file.is_file())
    assert original / 12 < taken < original / 8


def test_a_collection_remembers_its_layout(open_store: Open) -> None:
    first = open_store(pooling="hierarchical", pooled_vectors=3)
    again = open_store(pooling=None, storage="float32")  # the collection is there: its own layout holds
    for store in (first, again):
        assert store.info is not None
        assert (store.info.pooling, store.info.pooled, store.info.storage) == ("hierarchical", 3, "float16")
    again.add_pages(pages(1), patches(1))
    assert numbers(first.search(asked(patches(1)[0]))) == [1]


def test_a_collection_from_before_there_were_layouts(open_store: Open) -> None:
    store = open_store()
    assert store.info is not None
    old = {k: v for k, v in store.info.as_dict().items() if k not in ("storage", "pooling", "pooled")}
    store._engine.save_info(old)
    store.add_pages(pages(2), patches(2))
    assert sorted(numbers(open_store().search(asked(patches(1)[0])))) == [1, 2]


def test_what_is_pooled_by_itself(tmp_path: Path) -> None:
    class Patches(Filler):
        def patch_grid(self, page: Page) -> None: ...

    cases = [
        (Filler(), {}, None),
        (Filler(pooling="hierarchical"), {}, "hierarchical"),
        (Filler(pooling="hierarchical"), {"pooling": None}, None),
        (Filler(pooling="hierarchical"), {"pooling": "rows"}, "rows"),
        (Patches(pooling="rows"), {}, "rows"),
        (Filler(kind="single", pooling="rows"), {}, None),
    ]
    for place, (embedder, settings, expected) in enumerate(cases):
        with QdrantPageStore(tmp_path, f"c{place}", **settings) as store:
            store.prepare(embedder)
            assert store.info is not None
            assert store.info.pooling == expected, place
            assert store.info.storage == ("float16" if expected else "float32")


def test_a_pooled_collection_as_a_file(open_store: Open, tmp_path: Path) -> None:
    store, given = open_store(pooling="rows", pooled_vectors=4), patches(9)
    store.add_pages(pages(9), given)
    store.export(tmp_path / "index.zip")
    with QdrantPageStore.import_from(tmp_path / "index.zip", tmp_path / "other") as other:
        assert store.info is not None
        assert other.info == replace(store.info, pictures="")  # a server says where pictures are; this folder has none
        query = asked(given[5])
        assert numbers(other.search(query)) == numbers(store.search(query))


def test_optimizing_changes_no_result(tmp_path: Path) -> None:
    with QdrantPageStore(tmp_path, pooling="rows", pooled_vectors=4, candidates=20) as store:
        store.prepare(Filler())
        given = patches(300)
        store.add_pages(pages(300), given)
        queries = [asked(given[n]) for n in range(0, 300, 30)]
        before = [numbers(store.search(query)) for query in queries]
        store.optimize()
        assert [numbers(store.search(query)) for query in queries] == before


# --- fusion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.2, 1.0), (1.0, 0.0)])
def test_rrf_is_the_weighted_sum_of_reciprocal_ranks(open_store: Open, weights: tuple[float, float]) -> None:
    store, given = open_store(fusion="rrf", fusion_weights=weights), patches(12)
    store.add_pages([Page("d", n, text=" ".join(["word"] * n)) for n in range(1, 13)], given)
    query = asked(given[2])
    expected: dict[int, float] = {}
    for mode, weight in zip(("dense", "lexical"), weights, strict=True):
        for rank, hit in enumerate(store.search(query, text="word", mode=mode, top_k=12), 1):  # type: ignore[arg-type]
            expected[hit.page.number] = expected.get(hit.page.number, 0.0) + weight / (60 + rank)
    found = store.search(query, text="word", mode="hybrid", top_k=12)
    assert {hit.page.number: hit.score for hit in found} == pytest.approx(expected)
    assert {hit.score_type for hit in found} == {"fused"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"storage": "int4"}, r"storage is 'int4'.*'float16', '8bit'"),
        ({"pooling": "columns"}, "pooling is 'columns'.*'rows', 'hierarchical'"),
        ({"pooled_vectors": 0}, "pooled_vectors is 0"),
        ({"candidates": 0}, "candidates is 0"),
        ({"fusion": "sum"}, "fusion is 'sum'.*rrf"),
        ({"fusion": "rrf", "fusion_weights": (1.0,)}, "two numbers"),
        ({"fusion": "rrf", "fusion_weights": (0.0, 0.0)}, "two numbers"),
        ({"fusion_weights": (1.0, 2.0)}, "fusion='rrf'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        QdrantPageStore(":memory:", **settings)


def test_pooling_needs_many_vectors_a_page() -> None:
    with QdrantPageStore(":memory:", pooling="rows") as store, pytest.raises(SettingError, match="makes one"):
        store.prepare(Filler(kind="single"))
