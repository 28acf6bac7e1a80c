"""Similarity maps: against cosines written out, on a page drawn so that the right patch is known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from visrag_integrations import Page, QdrantPageStore, Query
from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.scores.exact import cosine, maxsim
from visrag_integrations.scores.patches import SimilarityMap, explain, similarity_map

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Grid(NamedTuple):
    indices: np.ndarray


class Painter:
    """Late interaction in small: a vector is a colour; a page is one prompt token and 2 x 4 patches."""

    name, kind, dimension = "painter", "multi", 3
    embedded = 0

    def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
        made = []
        for page in pages:
            self.embedded += 1
            small = np.asarray(page.open_image().convert("RGB").resize((4, 2), Image.Resampling.BOX), np.float32)
            made.append(np.concatenate([np.ones((1, 3), np.float32), small.reshape(-1, 3) + 1e-3]))
        return made

    def embed_queries(self, queries: Iterable[str | Query]) -> list[np.ndarray]:
        return [np.array([COLOURS[word] for word in str(query).split()], np.float32) for query in queries]

    def patch_grid(self, page: Page) -> Grid:
        return Grid(np.arange(1, 9).reshape(2, 4))


@pytest.fixture
def page() -> Page:
    """White, but for a red patch in the first row, third column, and a blue one below on the left."""
    picture = Image.new("RGB", (80, 40), "white")
    picture.paste("red", (40, 0, 60, 20))
    picture.paste("blue", (0, 20, 20, 40))
    return Page.from_image(picture, doc_id="d")


def test_a_map_is_the_cosine_of_every_query_vector_with_every_patch() -> None:
    rng = np.random.default_rng(0)
    query, vectors = rng.standard_normal((3, 8)), rng.standard_normal((15, 8))
    grid = np.arange(2, 14).reshape(3, 4)
    found = similarity_map(query, vectors, grid)
    for token in range(3):
        expected = np.array(cosine(query[token], vectors[2:14])).reshape(3, 4)
        np.testing.assert_allclose(found.heat(token), expected, atol=1e-6)
    np.testing.assert_allclose(found.heat(), found.values.mean(axis=0))
    assert sum(score for _, _, score in found.best()) == pytest.approx(maxsim(query, vectors[2:14]), abs=1e-5)


def test_it_shows_where_the_query_matched(page: Page) -> None:
    found = explain("red blue", page, Painter())
    assert [place[:2] for place in found.best()] == [(0, 2), (1, 0)]
    assert np.unravel_index(found.heat(0).argmax(), (2, 4)) == (0, 2)


def test_vectors_come_from_the_store_where_they_are(page: Page, tmp_path: Path) -> None:
    embedder = Painter()
    with QdrantPageStore(tmp_path / "index") as store:
        store.prepare(embedder)
        assert store.info is not None
        assert store.info.pooling == "rows", "an embedder with a patch grid has its vectors pooled"
        store.add_pages([page], embedder.embed_pages([page]))
        before = embedder.embedded
        found = explain("red", page, embedder, store)
        assert embedder.embedded == before
        assert found.best()[0][:2] == (0, 2)
        elsewhere = Page.from_image(page.open_image(), doc_id="not stored")
        assert explain("red", elsewhere, embedder, store).best()[0][:2] == (0, 2)


def test_vectors_that_a_compact_collection_joined_are_made_again(page: Page, tmp_path: Path) -> None:
    class Fine(Painter):
        """Of 24 x 30 patches, which are more vectors than a compact collection keeps."""

        def embed_pages(self, pages: Iterable[Page]) -> list[np.ndarray]:
            self.embedded += 1
            pictures = [page.open_image().resize((30, 24), Image.Resampling.BOX) for page in pages]
            return [np.asarray(picture, np.float32).reshape(-1, 3) + 1e-3 for picture in pictures]

        def patch_grid(self, page: Page) -> Grid:
            return Grid(np.arange(720).reshape(24, 30))

    embedder = Fine()
    with QdrantPageStore(tmp_path / "index", storage="compact") as store:
        store.prepare(embedder)
        store.add_pages([page], embedder.embed_pages([page]))
        assert len(store.get_embeddings([page.id])[page.id]) < 720
        before = embedder.embedded
        found = explain("red", page, embedder, store)
        assert embedder.embedded == before + 1
        np.testing.assert_allclose(found.values, explain("red", page, embedder).values)


def test_the_overlay_has_the_pages_size_and_is_hottest_where_it_matched(page: Page) -> None:
    picture = page.open_image()
    overlay = explain("red", page, Painter()).overlay(picture, 0, opacity=1.0)
    assert overlay.size == picture.size
    hot, cold = overlay.getpixel((50, 4)), overlay.getpixel((5, 35))
    assert hot[0] > 180 > hot[2], "red is high"
    assert cold[2] > cold[0], "blue is low"
    assert explain("red", page, Painter()).overlay(picture, opacity=0).tobytes() == picture.tobytes()


def test_a_map_without_differences_is_drawn_too() -> None:
    flat = SimilarityMap(np.full((1, 2, 2), 0.5, np.float32))
    assert flat.overlay(Image.new("L", (6, 6))).size == (6, 6)


def test_what_does_not_fit_is_told(page: Page) -> None:
    class Plain:
        name, kind, dimension = "plain", "single", 3

    with pytest.raises(SettingError, match=r"'plain' has no patches.*ColQwen2"):
        explain("x", page, Plain())  # type: ignore[arg-type]
    with pytest.raises(EmbedderError, match="9 vectors"):
        similarity_map(np.ones((1, 3)), np.ones((9, 3)), [[8, 9]])
    with pytest.raises(EmbedderError, match=r"\(n, d\)"):
        similarity_map(np.ones((1, 4)), np.ones((9, 3)), [[0]])
    with pytest.raises(EmbedderError, match="the shape"):
        similarity_map(np.ones(3), np.ones((9, 3)), [[0]])
    found = explain("red", page, Painter())
    with pytest.raises(SettingError, match="has 1 vectors"):
        found.heat(1)
    with pytest.raises(SettingError, match="opacity is 2"):
        found.overlay(page.open_image(), opacity=2)
