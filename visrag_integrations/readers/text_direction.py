"""Which way the words of a page run: upright, sideways, on their heads, from right to left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Hebrew, Arabic, Syriac, Thaana, N'Ko and the scripts between them; then their presentation forms.
_BACKWARDS = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_FORWARDS = re.compile("[^\\W\\d_\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]")
_UNSPACED = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")

_ALEFS = "اأإآٱ"
_LAM = "ل"
_HEH = "ه"
_MIRRORED = re.compile(f"[{_ALEFS}]{_LAM}|{_HEH}{_LAM}")

# A word is sideways when it is so much taller than wide, and has at least so many letters: a single "1" or "l" is as
# tall, and "ll" nearly so.
_TALL = 1.5
_LETTERS = 3
# The edges of two sideways words of one line differ by less than so much of their width.
_ALIGNED = 0.35
# Pairs of neighbours that run from right to left before a page is taken to stand on its head: a few of them are
# labels painted after their values.
_FEWEST_TURNED = 4


class Frame(NamedTuple):
    """How to look at a page so that its words stand upright.

    Attributes:
        turn: "up": upright already. "down": words run from top to bottom, lines from right to left (a page turned
            clockwise, vertical Japanese). "rise": words run from bottom to top. "head": on their heads.
    """

    turn: Literal["up", "down", "rise", "head"]

    def upright(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The boxes as they are when the page is turned.

        >>> Frame("down").upright(np.array([[8.0, 0, 9, 5]])).tolist()
        [[0.0, -9.0, 5.0, -8.0]]
        """
        left, top, right, bottom = boxes.T
        if self.turn == "down":
            return np.stack([top, -right, bottom, -left], axis=1)
        if self.turn == "rise":
            return np.stack([-bottom, left, -top, right], axis=1)
        if self.turn == "head":
            return -boxes[:, [2, 3, 0, 1]]
        return boxes


def is_right_to_left(words: str | Sequence[str]) -> bool:
    """Whether more letters are of scripts that run from right to left than of others.

    >>> is_right_to_left(["שלום", "OK"]), is_right_to_left("year 2031")
    (True, False)
    """
    text = words if isinstance(words, str) else "".join(words)
    if text.isascii() or _BACKWARDS.search(text) is None:
        return False
    return len(_BACKWARDS.findall(text)) > len(_FORWARDS.findall(text))


def in_order_of_writing(letters: str) -> str:
    """The letters of one glyph of a right-to-left script, which engines mirror with the line, as they are written.

    No glyph is alef and then lam, but lam-alef is one in every Arabic font; "Allah" is one of four letters.

    >>> in_order_of_writing("ال") == "لا", in_order_of_writing("لا") == "لا"
    (True, True)
    """
    mirrored = (len(letters) == 2 and letters[0] in _ALEFS and letters[1] == _LAM) or (
        len(letters) > 2 and letters[0] == _HEH and _LAM in letters[1:]
    )
    return letters[::-1] if mirrored else letters


def may_have_ligatures(words: Sequence[str]) -> bool:
    """Whether letters stand in these words as a mirrored ligature would leave them."""
    text = "".join(words)
    return not text.isascii() and _MIRRORED.search(text) is not None


def split_by_frame(words: Sequence[str], boxes: NDArray[np.float64]) -> list[tuple[Frame, NDArray[np.intp] | None]]:
    """The words that run one way, and those that run another, as places; None stands for all of them.

    Sideways notes on an upright page (a stamp in the margin, the label of an axis) are read after it.
    """
    if not len(boxes):
        return []
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    sideways = np.zeros(len(boxes), dtype=np.bool_)
    tall = np.flatnonzero(height > _TALL * width)
    for place in tall.tolist():
        sideways[place] = len(words[place]) >= _LETTERS
    if not sideways.any():
        return [(_upright_or_on_its_head(words, boxes), None)]
    _add_neighbours(sideways, boxes)
    frame = _sideways_frame(words, boxes, sideways)
    letters = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
    if 2 * letters[sideways].sum() > letters.sum():
        rest = np.flatnonzero(~sideways & (width > _TALL * height) & (letters >= _LETTERS))
        if not len(rest):
            return [(frame, None)]
        turned = np.setdiff1d(np.arange(len(boxes)), rest)
        return [(frame, turned), (Frame("up"), rest)]
    upright = np.flatnonzero(~sideways)
    return [(Frame("up"), upright), (frame, np.flatnonzero(sideways))]


def _upright_or_on_its_head(words: Sequence[str], boxes: NDArray[np.float64]) -> Frame:
    """On its head: words follow one another to the left, lines upwards, in a script that runs to the right."""
    middle = boxes[:, 1] + boxes[:, 3]
    height = boxes[:, 3] - boxes[:, 1]
    level = np.abs(middle[1:] - middle[:-1]) < 0.5 * height[1:]
    to_the_left = (boxes[:-1, 0] - boxes[1:, 2] > -0.3 * height[1:]) & (boxes[:-1, 0] - boxes[1:, 2] < height[1:])
    turned = int(np.count_nonzero(level & to_the_left))
    if turned < _FEWEST_TURNED:
        return Frame("up")
    to_the_right = (boxes[1:, 0] - boxes[:-1, 2] > -0.3 * height[1:]) & (boxes[1:, 0] - boxes[:-1, 2] < height[1:])
    if turned > 2 * np.count_nonzero(level & to_the_right) and not is_right_to_left(words):
        return Frame("head")
    return Frame("up")


def _add_neighbours(sideways: NDArray[np.bool_], boxes: NDArray[np.float64]) -> None:
    """Short words between sideways ones are sideways too: "of" in "Sheet of three"."""
    edges = boxes[:, [0, 2]]
    width = edges[:, 1] - edges[:, 0]
    aligned = np.abs(edges[1:] - edges[:-1]).max(axis=1) < _ALIGNED * np.maximum(width[1:], width[:-1])
    links = aligned.tolist()
    for place, linked in enumerate(links):
        if linked and sideways[place]:
            sideways[place + 1] = True
    for place in range(len(links) - 1, -1, -1):
        if links[place] and sideways[place + 1]:
            sideways[place] = True


def _sideways_frame(words: Sequence[str], boxes: NDArray[np.float64], sideways: NDArray[np.bool_]) -> Frame:
    """Whether most of the sideways words follow one another downwards or upwards."""
    both = sideways[1:] & sideways[:-1]
    across = np.abs(boxes[1:, 0] - boxes[:-1, 0]) < _ALIGNED * (boxes[1:, 2] - boxes[1:, 0])
    steps = np.sign(boxes[1:, 1] - boxes[:-1, 1])[both & across].sum()
    if steps:
        return Frame("down" if steps > 0 else "rise")
    # Words alone say nothing: vertical columns of Chinese and Japanese run down, single notes in a margin mostly up.
    letters = "".join(word for word, turned in zip(words, sideways.tolist(), strict=True) if turned)
    return Frame("down" if _UNSPACED.search(letters) else "rise")
