"""Which parts of a page matched a query: a late-interaction model compares every query vector with every patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visrag_integrations.errors import EmbedderError, SettingError
from visrag_integrations.images import to_rgb
from visrag_integrations.interfaces.embedders import has_patches, patch_grid_of
from visrag_integrations.interfaces.stores import stored_embeddings
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.interfaces import PageEmbedder

# Dark blue, blue, green, yellow, red: low to high.
_COLOURS = np.array([[24, 20, 90], [40, 90, 200], [40, 170, 110], [245, 215, 60], [215, 35, 30]], np.float64)


@dataclass(frozen=True, eq=False)
class SimilarityMap:
    """The cosine of every query vector with every patch of a page.

    Attributes:
        values: `(query vectors, rows, columns)`, from the page's top left corner.
    """

    values: NDArray[np.float32]

    def heat(self, token: int | None = None) -> NDArray[np.float32]:
        """`(rows, columns)`: of one query vector, or the mean over all of them."""
        if token is None:
            return np.asarray(self.values.mean(axis=0), np.float32)
        if not -len(self.values) <= token < len(self.values):
            raise SettingError(f"token is {token}; this query has {len(self.values)} vectors, counted from 0.")
        chosen: NDArray[np.float32] = self.values[token]
        return chosen

    def best(self) -> list[tuple[int, int, float]]:
        """Row, column and cosine of the patch that each query vector is most like: what MaxSim sums."""
        flat = self.values.reshape(len(self.values), -1)
        places = flat.argmax(axis=1)
        rows, columns = np.unravel_index(places, self.values.shape[1:])
        found = flat[np.arange(len(flat)), places]
        return [(int(r), int(c), float(s)) for r, c, s in zip(rows, columns, found, strict=True)]

    def overlay(self, picture: Image, token: int | None = None, *, opacity: float = 0.5) -> Image:
        """The picture with the heat over it, from blue (lowest) to red (highest); of the picture's own size."""
        from PIL import Image

        if not 0 <= opacity <= 1:
            raise SettingError(f"opacity is {opacity}; it must be from 0 (only the page) to 1 (only the heat).")
        heat = self.heat(token)
        low, high = float(heat.min()), float(heat.max())
        scaled = (heat - low) / max(high - low, 1e-9)  # 0 to 1; all 0 where every patch is equally alike
        patches = Image.fromarray(scaled.astype(np.float32))
        smooth = np.asarray(patches.resize(picture.size, Image.Resampling.BILINEAR))
        steps = np.linspace(0, 1, len(_COLOURS))
        colours = np.stack([np.interp(smooth, steps, channel) for channel in _COLOURS.T], axis=-1)
        return Image.blend(to_rgb(picture), Image.fromarray(colours.round().astype(np.uint8)), opacity)


def similarity_map(query: ArrayLike, page: ArrayLike, grid: ArrayLike) -> SimilarityMap:
    """The map of a page for a query, from their vectors.

    Args:
        query: `(m, d)`, one vector a token.
        page: `(n, d)`, the page's vectors.
        grid: `(rows, columns)`: which of the page's vectors belongs to the patch there.

    >>> similarity_map([[0, 2]], [[9, 9], [1, 0], [0, 1]], [[1, 2]]).values.tolist()
    [[[0.0, 1.0]]]
    """
    asked = _unit(query, "query")
    found = _unit(page, "page")
    places = np.asarray(grid)
    if asked.shape[1] != found.shape[1] or not len(asked):
        raise EmbedderError(f"The query's vectors are {asked.shape} and the page's {found.shape}; both must be (n, d).")
    if places.ndim != 2 or not places.size or places.min() < 0 or places.max() >= len(found):
        raise EmbedderError(
            f"The grid has the shape {places.shape} and the page {len(found)} vectors; the grid must be "
            "(rows, columns) of places among them, from 0."
        )
    similarities = asked @ found.T  # (m, n)
    values = similarities[:, places.ravel()].reshape(len(asked), *places.shape)
    return SimilarityMap(values.astype(np.float32))


def explain(query: str | Query, page: Page, embedder: PageEmbedder, store: Any = None) -> SimilarityMap:
    """Which patches of a page match a query.

    Args:
        query: A text, or a `Query`.
        page: With its picture, whose patches are counted.
        embedder: A late-interaction embedder: one with `patch_grid(page)`.
        store: Where the page's vectors are taken from when it is there, instead of being made again.

    Raises:
        SettingError: The embedder has no patches to show.
    """
    if not has_patches(embedder):
        raise SettingError(
            f"Embedder {embedder.name!r} has no patches to show. Use a late-interaction embedder such as ColQwen2."
        )
    # Only vectors as the embedder made them: joined ones belong to no single patch.
    vectors = stored_embeddings(store, [page.id], embedder, as_made=True).get(page.id)
    if vectors is None:
        vectors = embedder.embed_pages([page])[0]
    grid = patch_grid_of(embedder, page)
    return similarity_map(embedder.embed_queries([query])[0], vectors, getattr(grid, "indices", grid))


def _unit(vectors: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2:
        raise EmbedderError(f"The {name}'s vectors have the shape {array.shape}; a similarity map needs (n, d).")
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(array, lengths, out=np.zeros_like(array), where=lengths > 0)
    return unit
