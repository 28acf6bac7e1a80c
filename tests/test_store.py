"""One contract for every engine behind `QdrantPageStore`: in the process on a folder, and a client in memory."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import opened, places
from qdrant_client import QdrantClient, models

from visrag_integrations.errors import (
    EmbedderError,
    FilterError,
    PictureError,
    SettingError,
    StoreError,
    StoreFormatError,
    StoreMismatchError,
)
from visrag_integrations.images import encode
from visrag_integrations.interfaces import PageStore
from visrag_integrations.scores import lexical
from visrag_integrations.scores.exact import cosine, maxsims
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.engine import Schema
from visrag_integrations.types import Page, Word

DIM = 16
FIELDS: Any = {
    "even": "bool",
    "author": "keyword",
    "author.name": "keyword",
    "tags": "keyword",
    "my key": "keyword",
    "price": "float",
    "mixed": "keyword",
    "day": "datetime",
    "unheard": "keyword",
}
"""The users' keys of `library`: strict mode wants them indexed."""
Open = Callable[..., QdrantPageStore]


@dataclass
class Filler:
    """All that a store asks of an embedder."""

    name: str = "filler"
    kind: str = "single"
    dimension: int = DIM
    fingerprint: str | None = None
    instruction: str | None = None
    pooling: str | None = None


@pytest.fixture(params=places("folder", "memory", "server", "strict"))
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with opened(request.param, tmp_path) as place:
        yield place


@pytest.fixture
def open_store(request: pytest.FixtureRequest, location: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens stores on one location, as often as asked, and closes what is left."""
    stores: list[QdrantPageStore] = []
    is_strict = request.node.callspec.params["location"] == "strict"

    def open_again(kind: str | None = "single", **settings: Any) -> QdrantPageStore:
        settings.setdefault("pictures", tmp_path / "pictures")
        if is_strict and kind == "multi":  # late interaction needs exact searches or a first pass
            settings = {"pooling": "rows", "storage": "float32", **settings}
        stores.append(QdrantPageStore(location, **settings))
        if kind is not None:
            stores[-1].prepare(Filler(kind=kind))
        return stores[-1]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture(scope="module", params=places("folder", "memory", "server", "strict"))
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantPageStore]:
    """Two documents with metadata of every kind, to be looked at only."""
    extra = {
        "author": {"name": "Ada"},
        "tags": ["x", "y"],
        "my key": "x",
        "price": 2.5,
        "mixed": 1,
        "day": "2024-05-06",
    }
    folder = tmp_path_factory.mktemp("library")
    fields = FIELDS if request.param == "strict" else None
    with opened(request.param, folder) as place, QdrantPageStore(place, indexed_fields=fields) as store:
        store.is_strict = request.param == "strict"  # type: ignore[attr-defined]
        store.prepare(Filler())
        store.add_pages([*book("d1", 3, metadata=extra), *book("d2", 2, metadata={"mixed": "one"})], vectors(5))
        yield store


def vectors(count: int, *shape: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).standard_normal((count, *(shape or (DIM,)))).astype(np.float32))


def book(doc_id: str = "d1", pages: int = 3, **fields: Any) -> list[Page]:
    fields.setdefault("source", f"books/{doc_id}.pdf")
    metadata = {"total_pages": pages, **fields.pop("metadata", {})}
    return [
        Page(doc_id, n, text=f"Page {n} of {doc_id}: word{n}", metadata={**metadata, "even": n % 2 == 0}, **fields)
        for n in range(1, pages + 1)
    ]


def numbers(found: list[Any]) -> list[int]:
    return [hit.page.number for hit in found]


# --- in and out -----------------------------------------------------------------------------------------------------


def test_it_is_a_page_store(open_store: Open) -> None:
    assert isinstance(open_store(None), PageStore)


def test_pages_come_back_as_they_went_in(open_store: Open) -> None:
    words = (Word("Page", (0.1, 0.1, 0.2, 0.15)), Word("1", (0.21, 0.1, 0.25, 0.15)))
    pages = [*book(metadata={"author": {"name": "Ada"}, "nothing": None, "ratio": 0.25}), Page("d2", 7, words=words)]
    store = open_store()
    store.add_pages(pages, vectors(4))
    assert store.get_pages([pages[3].id, "00000000-0000-0000-0000-00000000dead", pages[0].id]) == [pages[3], pages[0]]
    assert sorted(store.scroll(), key=lambda p: (p.doc_id, p.number)) == pages
    assert store.count() == 4


def test_generators_are_read_once(open_store: Open) -> None:
    store = open_store()
    store.add_pages((page for page in book()), (vector for vector in vectors(3)))
    assert store.count() == 3


def test_no_pages_are_no_trouble(open_store: Open) -> None:
    store = open_store()
    store.add_pages([], [])
    assert store.count() == 0
    assert store.get_pages([]) == []
    assert store.get_embeddings([]) == {}


def test_adding_again_overwrites(open_store: Open) -> None:
    store = open_store()
    store.add_pages(book(), vectors(3))
    store.add_pages([Page("d1", 2, text="new", source="books/d1.pdf")], vectors(1, seed=9))
    assert store.count() == 3
    assert store.get_pages([Page("d1", 2).id])[0].text == "new"
    assert store.search(None, text="word2", mode="lexical") == []
    assert numbers(store.search(vectors(1, seed=9)[0], top_k=1)) == [2]


def test_one_page_twice_in_a_call_is_one_page(open_store: Open) -> None:
    store = open_store()
    store.add_pages([Page("d", 1, source="a.pdf"), Page("d", 1, source="b.pdf")], vectors(2))
    assert store.count() == 1
    assert next(store.documents()).sources == ("a.pdf", "b.pdf")


def test_more_pages_than_one_request(open_store: Open) -> None:
    store = open_store()
    store.add_pages(book(pages=600), vectors(600))
    assert store.count() == 600
    assert store.page_numbers("d1") == frozenset(range(1, 601))
    assert len(store.get_pages([page.id for page in book(pages=600)])) == 600


def test_two_tenants_never_share_a_point(open_store: Open) -> None:
    store = open_store()
    store.add_pages([*book(tenant="a"), *book(tenant="b")], vectors(6))
    assert store.count() == 6
    found = store.search(vectors(6)[4], text="word2", top_k=6, mode="hybrid", filter={"tenant": "a"})
    assert {hit.page.tenant for hit in found} == {"a"}
    assert len(found) == 3


def test_embeddings_come_back_at_unit_length(open_store: Open) -> None:
    store = open_store()
    pages, given = book(), vectors(3)
    store.add_pages(pages, [given[0], given[1], np.zeros((0, DIM))])
    found = store.get_embeddings([page.id for page in pages])
    assert set(found) == {pages[0].id, pages[1].id}
    np.testing.assert_allclose(found[pages[1].id], given[1] / np.linalg.norm(given[1]), atol=1e-6)


# --- search ---------------------------------------------------------------------------------------------------------


def test_dense_scores_are_exact_cosines(open_store: Open) -> None:
    store = open_store()
    given, query = vectors(40), vectors(1, seed=5)[0]
    store.add_pages(book(pages=40), given)
    expected = cosine(query, given)
    found = store.search(query, top_k=40)
    assert [hit.score for hit in found] == pytest.approx(sorted(expected, reverse=True), abs=1e-3)
    assert numbers(found) == [int(i) + 1 for i in np.argsort(expected)[::-1]]
    assert {hit.score_type for hit in found} == {"cosine"}


def test_late_interaction_scores_are_exact_maxsims(open_store: Open) -> None:
    store = open_store("multi")
    rng = np.random.default_rng(3)
    given = [rng.standard_normal((n, DIM)).astype(np.float32) for n in (1, 5, 2, 9)]
    query = vectors(1, 3, DIM, seed=5)[0]
    store.add_pages(book(pages=4), given)
    found = store.search(query, top_k=4)
    expected = maxsims(query, given)
    assert {hit.page.number: hit.score for hit in found} == pytest.approx(
        {n + 1: score for n, score in enumerate(expected)}, abs=1e-3
    )
    assert {hit.score_type for hit in found} == {"maxsim"}
    kept = store.get_embeddings([book(pages=4)[3].id])
    assert next(iter(kept.values())).shape == (9, DIM)


def test_lexical_scores_are_bm25(open_store: Open) -> None:
    store = open_store()
    texts = ["apple pear", "apple apple plum", "plum", ""]
    store.add_pages([Page("d", n, text=t) for n, t in enumerate(texts, 1)], vectors(4))
    found = store.search(None, text="apple", mode="lexical")
    assert numbers(found) == [2, 1]
    assert {hit.score_type for hit in found} == {"bm25"}
    stored = [dict(zip(*lexical.document_vector(text), strict=True)) for text in texts if text]
    holders = {i: sum(i in weights for weights in stored) for i in lexical.query_vector("apple")[0]}
    rarity = {i: math.log(1 + (len(stored) - n + 0.5) / (n + 0.5)) for i, n in holders.items()}
    asked = dict(zip(*lexical.query_vector("apple"), strict=True))
    expected = [sum(asked[i] * rarity[i] * weights.get(i, 0.0) for i in asked) for weights in stored]
    assert [hit.score for hit in found] == pytest.approx([expected[1], expected[0]], rel=1e-4)


def test_hybrid_is_the_fusion_of_both_exact_halves(open_store: Open) -> None:
    store = open_store()
    pages = [Page("d", n, text=" ".join(["common"] * n + [f"rare{n % 5}"])) for n in range(1, 13)]
    given, query = vectors(12), vectors(1, seed=5)[0]
    store.add_pages(pages, given)
    words = {hit.page.id: hit.score for hit in store.search(None, text="common rare3", mode="lexical", top_k=12)}
    dense = {page.id: score for page, score in zip(pages, cosine(query, given), strict=True)}
    expected = lexical.fuse(dense, words, "common rare3")
    found = store.search(query, text="common rare3", mode="hybrid", top_k=5)
    assert {hit.page.id: hit.score for hit in found} == pytest.approx(
        dict(sorted(expected.items(), key=lambda item: -item[1])[:5]), abs=1e-3
    )
    assert {hit.score_type for hit in found} == {"fused"}


def test_hybrid_fills_in_what_one_half_did_not_propose(open_store: Open) -> None:
    """Each half proposes 100; a page that is last in one and first in the other still gets both its scores."""
    store = open_store()
    query = np.ones(DIM, np.float32)
    given = [np.ones(DIM, np.float32) + 0.01 * v for v in vectors(130)]
    given[120] = -query
    pages = [Page("d", n, text="needle" if n == 121 else "hay") for n in range(1, 131)]
    store.add_pages(pages, given)
    best = store.search(query, text="needle", mode="hybrid", top_k=130)
    needle = next(hit for hit in best if hit.page.number == 121)
    lone = store.search(None, text="needle", mode="lexical")[0].score
    dense = {hit.page.id: hit.score for hit in best} and store.search(query, top_k=130)
    everything = lexical.fuse({h.page.id: h.score for h in dense}, {needle.page.id: lone}, "needle")
    assert needle.score == pytest.approx(everything[needle.page.id], abs=1e-3)


def test_pages_without_text_or_without_vectors_lack_that_half(open_store: Open) -> None:
    store = open_store("multi")
    empty = np.zeros((0, DIM), np.float32)
    store.add_pages([Page("d", 1, text="word"), Page("d", 2), Page("d", 3, text="word")], [empty, *vectors(2, 2, DIM)])
    query = vectors(1, 1, DIM, seed=5)[0]
    assert sorted(numbers(store.search(query, top_k=5))) == [2, 3]
    assert sorted(numbers(store.search(None, text="word", mode="lexical"))) == [1, 3]
    assert sorted(numbers(store.search(query, text="word", mode="hybrid"))) == [1, 2, 3]
    assert store.count() == 3


def test_a_query_without_words_or_vectors_finds_nothing(open_store: Open) -> None:
    store = open_store("multi")
    store.add_pages(book(), vectors(3, 2, DIM))
    assert store.search(None, text="...", mode="lexical") == []
    assert store.search(np.zeros((0, DIM)), top_k=2) == []
    assert numbers(store.search(np.zeros((0, DIM)), text="word2", mode="hybrid", top_k=1)) == [2]


def test_filters_hold_in_every_mode(open_store: Open) -> None:
    store = open_store()
    store.add_pages([*book("d1", 30), *book("d2", 30)], vectors(60))
    for mode in ("dense", "lexical", "hybrid"):
        found = store.search(vectors(60)[3], text="page word4", top_k=50, mode=mode, filter={"source": "d2.pdf"})
        assert {hit.page.doc_id for hit in found} == {"d2"}
        assert len(found) == 30


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"source": "books/d1.pdf"}, 3),
        ({"source": "d1.pdf"}, 3),
        ({"source": ["d1.pdf", "d2.pdf"]}, 5),
        ({"source": "books"}, 0),
        ({"doc_id": "d2"}, 2),
        ({"number": 2}, 2),
        ({"$metadata": {"page": 0}}, 2),  # as LangChain shows it
        ({"number": {"gte": 2, "lt": 3}}, 2),
        ({"number": {"gt": 1}, "doc_id": "d1"}, 2),
        ({"even": True}, 2),
        ({"even": False}, 3),
        ({"even": {"not": True}}, 3),
        ({"author.name": "Ada"}, 3),
        ({"author": None}, 2),
        ({"author": {"exists": True}}, 3),
        ({"tags": "x"}, 3),
        ({"tags": ["y", "z"]}, 3),
        ({"tags": {"nin": ["y"]}}, 2),
        ({"my key": "x"}, 3),
        ({"price": 2.5}, 3),
        ({"price": {"gte": 2.4, "lte": 2.6}}, 3),
        ({"mixed": ["one", 1]}, 5),
        ({"day": {"gte": "2024-01-01", "lt": "2025-01-01T00:00:00Z"}}, 3),
        ({"$or": [{"doc_id": "d2"}, {"number": 3}]}, 3),
        ({"$not": {"doc_id": "d2"}}, 3),
        ({"$and": [{"doc_id": "d1"}, {"$or": [{"number": 1}, {"number": 2}]}]}, 2),
        ({"doc_id": []}, 0),
        ({"unheard": "of"}, 0),
        ({}, 5),
    ],
)
def test_filters_count(library: QdrantPageStore, filter: Any, expected: int) -> None:
    if library.is_strict and "mixed" in filter:  # type: ignore[attr-defined]  # an index is of one kind
        with pytest.raises(StoreError, match=r"Index required .*indexed_fields="):
            library.count(filter)
        return
    assert library.count(filter) == expected
    assert len(list(library.scroll(filter))) == expected
    assert len(library.search(vectors(1)[0], top_k=10, filter=filter)) == expected


@pytest.mark.parametrize(
    "filter",
    [
        {"$ids": 5},
        {"$ids": "abc"},
        {"$ids": ["not-a-page-id"]},
        {"year": 2**63},
        {"year": [1, -(2**63) - 1]},
        {"year": {"gte": 10**400}},
        {"year": {"gte": "2024-W01"}},
        {"year": {"gte": "2024-01-01T10:00:00+00:00:30"}},
        {"a\\b": 1},
        {"\ud800": 1},
        {"page": 0},
        {"$or": [{"number": 1}, {"metadata.page": {"gte": 1}}]},
    ],
)
def test_filters_that_no_engine_understands_are_refused(library: QdrantPageStore, filter: Any) -> None:
    with pytest.raises(FilterError):
        library.search(vectors(1)[0], filter=filter)


# --- documents and sources ------------------------------------------------------------------------------------------


def test_documents_are_listed(open_store: Open) -> None:
    store = open_store()
    store.add_pages([*book("d2", 2), *book("d1", 3), Page("d3", 4)], vectors(6))
    listed = [(d.doc_id, d.sources, d.pages, d.total_pages) for d in store.documents()]
    assert listed == [("d3", (), 1, None), ("d1", ("books/d1.pdf",), 3, 3), ("d2", ("books/d2.pdf",), 2, 2)]


def test_a_document_under_two_paths_goes_when_the_last_goes(open_store: Open) -> None:
    store = open_store()
    store.add_pages(book(), vectors(3))
    assert store.add_source("d1", "copies/same.pdf") == 3
    assert next(store.documents()).sources == ("books/d1.pdf", "copies/same.pdf")
    assert store.count({"source": "same.pdf"}) == store.count({"source": "d1.pdf"}) == 3
    assert store.delete(source="books/d1.pdf") == 0
    assert next(store.documents()).sources == ("copies/same.pdf",)
    assert store.count({"source": "d1.pdf"}) == 0
    assert store.get_pages([book()[0].id])[0].source == "copies/same.pdf"
    assert store.delete(source="copies/same.pdf") == 3
    assert store.count() == 0


def test_adding_from_another_path_merges_the_sources(open_store: Open) -> None:
    store = open_store()
    store.add_pages(book(), vectors(3))
    store.add_pages(book(source="other.pdf"), vectors(3))
    assert store.count() == 3
    assert next(store.documents()).sources == ("books/d1.pdf", "other.pdf")
    assert store.add_source("d1", "other.pdf") == 3
    assert next(store.documents()).sources == ("books/d1.pdf", "other.pdf")


def test_delete(open_store: Open) -> None:
    store = open_store()
    store.add_pages([*book("d1"), *book("d2"), *book("d3")], vectors(9))
    assert store.delete(doc_id="d1") == 3
    assert store.delete(doc_id="d1") == 0
    assert store.delete(filter={"number": {"gte": 3}}) == 2
    assert store.delete(doc_id="d2", source="elsewhere.pdf") == 0
    assert store.delete(doc_id="d2", source="books/d2.pdf") == 2
    assert [d.doc_id for d in store.documents()] == ["d3"]
    with pytest.raises(SettingError, match="recreate=True"):
        store.delete()
    assert store.count() == 2


# --- pictures -------------------------------------------------------------------------------------------------------


def files_under(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def red(width: int = 30) -> Image.Image:
    return Image.new("RGB", (width, 20), "red")


def test_pictures_are_content_addressed_files_and_open_late(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    jpeg = encode(Image.new("RGB", (8, 8), "blue"))
    store.add_pages([Page("d", n, picture=p) for n, p in enumerate([red(), red(), jpeg], 1)], vectors(3))
    assert len(files_under(tmp_path / "pictures")) == 2  # the two red ones are one file
    pages = store.get_pages([Page("d", 1).id, Page("d", 3).id])
    assert pages[0].open_image().size == (30, 20)
    assert isinstance(pages[1].picture, Path)
    assert pages[1].picture.read_bytes() == jpeg  # bytes of the wanted format are kept as they are
    assert "image" not in pages[0].metadata
    pages[0].picture.unlink()  # type: ignore[union-attr]
    with pytest.raises(PictureError):
        store.get_pages([Page("d", 1).id])[0].open_image()


def test_pictures_go_with_their_last_page(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.add_pages(
        [Page("a", 1, picture=red()), Page("b", 1, picture=red()), Page("b", 2, picture=red(50))], vectors(3)
    )
    assert len(files_under(tmp_path / "pictures")) == 2
    store.delete(doc_id="a")
    assert len(files_under(tmp_path / "pictures")) == 2
    store.add_pages([Page("b", 2, picture=red(60))], vectors(1))  # another picture of the same page
    assert len(files_under(tmp_path / "pictures")) == 2
    store.delete(doc_id="b")
    assert files_under(tmp_path / "pictures") == []


def test_picture_formats(open_store: Open) -> None:
    store = open_store(picture_format="PNG")
    store.add_pages([Page("d", 1, picture=encode(red(), "JPEG"))], vectors(1))
    picture = store.get_pages([Page("d", 1).id])[0].picture
    assert isinstance(picture, Path)
    assert picture.suffix == ".png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SettingError, match="JPEG, PNG, WEBP"):
        open_store(picture_format="BMP")


def test_no_pictures_when_asked(open_store: Open, tmp_path: Path) -> None:
    store = open_store(pictures=False)
    store.add_pages([Page("d", 1, picture=red())], vectors(1))
    assert store.get_pages([Page("d", 1).id])[0].picture is None
    assert not (tmp_path / "pictures").exists()


def test_two_collections_share_a_picture_root(location: Any, tmp_path: Path) -> None:
    with (
        QdrantPageStore(location, "one", pictures=tmp_path / "p") as one,
        QdrantPageStore(location, "two", pictures=tmp_path / "p") as two,
    ):
        for store in (one, two):
            store.prepare(Filler())
            store.add_pages([Page("d", 1, picture=red())], vectors(1))
        one.delete(doc_id="d")
        assert two.get_pages([Page("d", 1).id])[0].open_image().size == (30, 20)
        assert (one.count(), two.count()) == (0, 1)


def test_a_reference_that_leaves_the_root_is_refused_when_opened(open_store: Open, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(encode(red()))
    store = open_store()
    store.add_pages([Page("d", 1, picture=red())], vectors(1))
    store._engine.set_payload([Page("d", 1).id], {"image": "../secret.jpg"}, "metadata")
    page = store.get_pages([Page("d", 1).id])[0]
    with pytest.raises(PictureError, match="refused"):
        page.open_image()
    assert store.delete(doc_id="d") == 1
    assert (tmp_path / "secret.jpg").exists()


# --- who filled it --------------------------------------------------------------------------------------------------


def test_nothing_is_there_before_prepare(open_store: Open) -> None:
    store = open_store(None)
    assert store.info is None
    assert (store.search(vectors(1)[0]), store.count(), list(store.documents()), list(store.scroll())) == (
        [],
        0,
        [],
        [],
    )
    assert (store.delete(doc_id="d"), store.get_pages([Page("d", 1).id]), store.page_numbers("d")) == (
        0,
        [],
        frozenset(),
    )
    with pytest.raises(StoreError, match=r"prepare\(embedder\)"):
        store.add_pages(book(), vectors(3))


def test_a_collection_remembers_its_embedder(open_store: Open) -> None:
    store = open_store(None)
    store.prepare(Filler(fingerprint="abc", instruction="Find: "), reader={"backend": "pymupdf"})
    again = open_store(None)
    assert again.info == store.info
    assert again.info is not None
    assert (again.info.embedder, again.info.kind, again.info.dimension) == ("filler", "single", DIM)
    assert (again.info.fingerprint, again.info.instruction) == ("abc", "Find: ")
    assert again.info.reader == {"backend": "pymupdf"}
    again.prepare(Filler(fingerprint="abc", instruction="Find: "))
    assert again.info.reader == {"backend": "pymupdf"}
    again.prepare(Filler())  # an embedder that does not say is not refused


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Filler(name="other"), ["'filler'", "'other'"]),
        (Filler(kind="multi"), ["single", "multi"]),
        (Filler(dimension=8), ["16-dim", "8-dim"]),
        (Filler(fingerprint="def"), ["'abc'", "'def'"]),
        (Filler(instruction="Look: "), ["'Find: '", "'Look: '"]),
    ],
)
def test_another_embedder_is_refused_with_both_names(open_store: Open, other: Filler, words: list[str]) -> None:
    store = open_store(None)
    store.prepare(Filler(fingerprint="abc", instruction="Find: "))
    with pytest.raises(StoreMismatchError, match="another collection") as caught:
        store.prepare(other)
    assert all(word in str(caught.value) for word in words)


def test_recreate_starts_over(open_store: Open, tmp_path: Path) -> None:
    store = open_store()
    store.add_pages([Page("d", 1, picture=red())], vectors(1))
    store.prepare(Filler("other", "multi", 4, pooling="rows"), recreate=True)
    assert store.count() == 0
    assert files_under(tmp_path / "pictures") == []
    store.add_pages(book(), vectors(3, 2, 4))
    assert store.count() == 3


def test_a_newer_format_is_refused(open_store: Open) -> None:
    store = open_store()
    assert store.info is not None
    store._engine.save_info({**store.info.as_dict(), "format_version": 99})
    with pytest.raises(StoreFormatError, match=r"99.*pip install --upgrade"):
        open_store(None)


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (np.zeros(8), r"Page 1 of 'a.pdf' .*\(8,\).*\(16,\)"),
        (np.zeros((2, DIM)), r"\(2, 16\)"),
        (np.full(DIM, np.nan), "NaN"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused_whole(open_store: Open, embedding: Any, message: str) -> None:
    store = open_store()
    with pytest.raises(EmbedderError, match=message):
        store.add_pages([Page("d", 2), Page("d", 1, source="a.pdf")], [vectors(1)[0], embedding])
    assert store.count() == 0


def test_a_multi_vector_beyond_the_servers_limit_is_refused_with_advice(open_store: Open) -> None:
    with pytest.raises(EmbedderError, match="Pool its vectors"):
        open_store("multi").add_pages([Page("d", 1)], [np.ones((70_000, DIM), np.float32)])


def test_counts_that_differ_are_refused(open_store: Open) -> None:
    with pytest.raises(EmbedderError, match="3 pages came with 2"):
        open_store().add_pages(book(), vectors(2))


def test_searches_that_make_no_sense(open_store: Open) -> None:
    store = open_store()
    for top_k in (0, -1, True, 2.5):
        with pytest.raises(SettingError, match="top_k"):
            store.search(vectors(1)[0], top_k=top_k)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="dense, lexical, hybrid"):
        store.search(vectors(1)[0], mode="fuzzy")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="lexical"):
        store.search(None)
    with pytest.raises(EmbedderError, match="The query"):
        store.search(np.ones(3))
    with pytest.raises(EmbedderError, match="NaN"):
        store.search(np.full(DIM, np.inf))
    with pytest.raises(FilterError):
        store.search(vectors(1)[0], filter={"a": {"b": 1}})


def test_a_closed_store_says_so(location: Any) -> None:
    store = QdrantPageStore(location)
    store.prepare(Filler())
    store.close()
    store.close()
    if isinstance(location, QdrantClient):
        assert location.collection_exists(store.collection)  # a client that was given is left open
    else:
        with pytest.raises(StoreError, match="closed"):
            store.count()


def test_threads_may_share_a_store(open_store: Open) -> None:
    store = open_store()
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for _ in range(3):
                store.add_pages(book(name, 8), vectors(8))
                assert (
                    len(store.search(vectors(1)[0], text="word3", mode="hybrid", filter={"doc_id": name}, top_k=20))
                    == 8
                )
                assert store.delete(doc_id=name, filter={"number": {"gt": 4}}) == 4
        except BaseException as err:  # noqa: BLE001
            failed.append(err)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert store.count() == 16


# --- the client alone -----------------------------------------------------------------------------------------------


def test_a_native_filter_works_with_a_client() -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(Filler())
        store.add_pages(book(), vectors(3))
        native = models.Filter(must=[models.FieldCondition(key="metadata.number", match=models.MatchValue(value=2))])
        assert store.count(native) == 1  # type: ignore[arg-type]
        assert numbers(store.search(vectors(1)[0], filter=native)) == [2]  # type: ignore[arg-type]


def test_memory_keeps_pictures_in_memory() -> None:
    with QdrantPageStore(":memory:") as store:
        store.prepare(Filler())
        store.add_pages([Page("d", 1, picture=red())], vectors(1))
        assert store.get_pages([Page("d", 1).id])[0].open_image().size == (30, 20)


def test_blocks_that_wrap_the_client_may_overlap() -> None:
    class Noting:
        def __init__(self, client: Any, used: list[str], name: str) -> None:
            self.client, self.used, self.name = client, used, name

        def __getattr__(self, method: str) -> Any:
            self.used.append(self.name)
            return getattr(self.client, method)

    used: list[str] = []
    with QdrantPageStore(":memory:") as store:
        store.prepare(Filler())
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        first.enter_context(store.client_through(lambda client, _: Noting(client, used, "first")))
        second.enter_context(store.client_through(lambda client, _: Noting(client, used, "second")))
        first.close()
        store.count()
        assert set(used) == {"second"}
        second.close()
        used.clear()
        store.count()
        assert used == []


def test_a_collection_of_somebody_else_is_refused() -> None:
    client = QdrantClient(":memory:")
    client.create_collection("pages", vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
    assert QdrantPageStore(client).info is None  # empty: it may be ours, half made
    client.upsert("pages", [models.PointStruct(id=1, vector=[1, 0, 0, 0])])
    with pytest.raises(StoreFormatError, match="did not write"):
        QdrantPageStore(client)


def test_a_server_that_is_away() -> None:
    with pytest.raises(StoreError, match=r"http://127\.0\.0\.1:1 .*running") as caught:
        QdrantPageStore("http://127.0.0.1:1", timeout=2)
    assert caught.value.__cause__ is not None


def test_a_server_that_refuses_the_key() -> None:
    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(StoreError, match="api_key"):
            QdrantPageStore(f"http://127.0.0.1:{server.server_port}", timeout=5)
        server.shutdown()


def test_another_process_may_be_first_to_make_the_collection(location: Any) -> None:
    """Both open before there is a collection; the second to prepare must keep the pages of the first."""
    with QdrantPageStore(location, pictures=False) as one, QdrantPageStore(location, pictures=False) as two:
        one.prepare(Filler())
        one.add_pages(book(), vectors(3))
        assert one.info is not None
        two._engine.create([Schema("single", DIM, binary=False)], one.info.as_dict())
        two.prepare(Filler())
        assert (one.count(), two.count()) == (3, 3)


def test_pictures_under_a_url() -> None:
    fsspec = pytest.importorskip("fsspec")
    with QdrantPageStore(":memory:", pictures="memory://visrag-test") as store:
        store.prepare(Filler())
        store.add_pages([Page("d", 1, picture=red())], vectors(1))
        assert len(fsspec.filesystem("memory").find("/visrag-test")) == 1
        page = store.get_pages([Page("d", 1).id])[0]
        assert page.open_image().size == (30, 20)
        store.delete(doc_id="d")
        with pytest.raises(PictureError, match="cannot be read"):
            page.open_image()
    with pytest.raises(SettingError, match="nonsense"):
        QdrantPageStore(":memory:", pictures="nonsense://x")


def test_locations_and_settings_that_make_no_sense() -> None:
    with pytest.raises(SettingError, match="a folder"):
        QdrantPageStore(3)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="s3://bucket"):
        QdrantPageStore("s3://bucket")
    with pytest.raises(SettingError, match="to the client"):
        QdrantPageStore(QdrantClient(":memory:"), api_key="secret")
    with pytest.raises(SettingError, match="'binary'"):
        QdrantPageStore(":memory:", quantization="half")
    with pytest.raises(SettingError, match="collection name"):
        QdrantPageStore(":memory:", "../pages")
