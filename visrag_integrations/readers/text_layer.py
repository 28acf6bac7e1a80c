"""The text layer of a page as it is shown: words that can be seen, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visrag_integrations.images import Pixels
from visrag_integrations.readers.comb_fields import join_cells
from visrag_integrations.readers.content import clean_text, has_unprintable, make_words
from visrag_integrations.readers.reading_order import reading_order
from visrag_integrations.readers.visibility import visible_words
from visrag_integrations.types import Box, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PaintedWords(NamedTuple):
    """The words of a page in the order of painting, as an engine gives them.

    Attributes:
        texts: No white space in them.
        corners: Two opposite corners of each, `(x, y, x, y)` in units of the page as it is shown, from its top left.
        covered: Places of words over which a picture was painted that is no scan of the page.
        combs: Form fields with a cell for each letter, as their corners.
    """

    texts: Sequence[str]
    corners: Sequence[Sequence[float]] | NDArray[np.float64]
    covered: Sequence[int] = ()
    combs: Sequence[Sequence[float]] | NDArray[np.float64] = ()


def read_text_layer(painted: PaintedWords, width: float, height: float, pixels: Pixels) -> tuple[str, tuple[Word, ...]]:
    """The text and the words of a page of this size, of which these pixels were drawn."""
    texts = painted.texts
    if not texts:
        return "", ()
    boxes = np.asarray(painted.corners, dtype=np.float64)
    if not np.isfinite(boxes).all():
        boxes = np.nan_to_num(boxes, posinf=1e9, neginf=-1e9)  # far off any page, and still safe to add and multiply
    if (boxes[:, 2:] < boxes[:, :2]).any():  # a turned word has its corners in another order
        boxes = np.sort(boxes.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    if has_unprintable(texts):
        texts = list(map(clean_text, texts))
    edges = boxes / (width, height, width, height)
    kept = visible_words(texts, boxes, edges, pixels)
    if painted.covered:
        kept[list(painted.covered)] = False
    if not kept.all():
        shown = np.flatnonzero(kept)
        texts = [texts[place] for place in shown.tolist()]
        boxes = boxes[shown]
        edges = edges[shown]
        if not texts:
            return "", ()
    if len(painted.combs):
        fields = np.sort(np.asarray(painted.combs, dtype=np.float64).reshape(-1, 2, 2), axis=1).reshape(-1, 4)
        texts, boxes = join_cells(texts, boxes, fields)
        edges = boxes / (width, height, width, height)
    order = reading_order(texts, boxes)
    text = order.text(texts)
    if not isinstance(order.places, range):
        edges = edges[order.places]
    return text, make_words(order.sorted(texts), edges)


def words_under(corners: NDArray[np.float64], painted_before: NDArray[np.bool_], picture: Box) -> list[int]:
    """Places of the words that were painted before a picture and of which half or more lies under it.

    >>> corners = np.array([[10.0, 10, 30, 20], [10, 90, 30, 99]])
    >>> words_under(corners, np.array([True, True]), (0, 0, 25, 50))
    [0]
    """
    left, top, right, bottom = picture
    across = np.minimum(corners[:, 2], right) - np.maximum(corners[:, 0], left)
    down = np.minimum(corners[:, 3], bottom) - np.maximum(corners[:, 1], top)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    under = painted_before & (across > 0) & (down > 0) & (across * down >= 0.5 * area)
    return np.flatnonzero(under).tolist()
