"""What every kind of document gives its reader: pages as pictures with text and word boxes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from visrag_integrations.images import PictureSource
from visrag_integrations.types import Word

# Of the page's area. A stamp or a header of a scan covers less; the text of a page that was written covers more.
_LITTLE = 0.05
# Of the page's area: scanners leave out margins, and drawings that fill a page are seldom one picture.
_NEARLY_ALL = 0.8
# Of a text's characters: with more, a reader could not make sense of it, and OCR does better.
_UNKNOWN_ALLOWED = 0.3
_UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff]")  # the replacement character, and Unicode's private use area
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class PageContent:
    """One page as its engine gives it.

    Attributes:
        picture: RGB pixels, or the bytes of a picture file that is good as it is.
        text: The text layer.
        words: Its words with their boxes.
        label: The page's own number ("iv"); "" where it has none.
        blank: Every pixel has one colour.
        scan: One picture covers the page, and the text layer next to nothing of it (a stamp, a header).
    """

    picture: PictureSource
    text: str = ""
    words: tuple[Word, ...] = ()
    label: str = ""
    blank: bool = False
    scan: bool = False


class DocumentContent(Protocol):
    """An open document. `page` may raise anything; the reader turns it into a `PageError`."""

    @property
    def total_pages(self) -> int: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...

    def page(self, number: int) -> PageContent: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class RenderSettings:
    """How pages become pixels, for every kind of document."""

    max_pixels: int
    max_image_pixels: int
    password: str | None = field(default=None, repr=False)


def clean_text(text: str) -> str:
    """Text without control characters and broken code points; newlines and tabs stay.

    >>> clean_text("one\\r\\ntwo\\x00")
    'one\\ntwo'
    """
    return _UNPRINTABLE.sub("", text)


def make_words(texts: Sequence[str], boxes: Sequence[Sequence[float]], width: float, height: float) -> tuple[Word, ...]:
    """Words from their texts and corners in page units, as fractions held inside the page; empty ones are left out.

    >>> make_words(["a", ""], [(10, 0, 120, 50), (0, 0, 1, 1)], 100, 100)
    (Word(text='a', box=(0.1, 0.0, 1.0, 0.5)),)
    """
    import numpy as np

    if not texts:
        return ()
    # A page has hundreds of words, so all are worked on together: one at a time would cost as much as drawing the page.
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2) / (width, height)
    corners = np.nan_to_num(np.sort(corners, axis=1))  # a turned word has its corners in another order
    edges = np.round(np.clip(corners, 0.0, 1.0), 5).reshape(-1, 4)
    if _UNPRINTABLE.search("".join(texts)) is not None:
        texts = list(map(clean_text, texts))
    boxed = zip(texts, map(tuple, edges.tolist()), strict=True)
    return tuple(word for word in map(Word._make, boxed) if word.text)


def covers_little(words: Sequence[Word]) -> bool:
    """Whether the words stand on less than a twentieth of their page; there must be some.

    >>> covers_little([Word("RECEIVED", (0.7, 0.02, 0.9, 0.05))]), covers_little([Word("A", (0, 0, 1, 1))])
    (True, False)
    """
    area = sum((right - left) * (bottom - top) for _, (left, top, right, bottom) in words)
    return bool(words) and area < _LITTLE


def stands_on(word: Word, others: Sequence[Word]) -> bool:
    """Whether half of a word's box is covered by the boxes of others.

    >>> stands_on(Word("ab", (0, 0, 0.4, 0.1)), [Word("a", (0, 0, 0.2, 0.1)), Word("b", (0.2, 0, 0.4, 0.1))])
    True
    """
    left, top, right, bottom = word.box
    covered = 0.0
    for _, box in others:
        across = min(right, box[2]) - max(left, box[0])
        down = min(bottom, box[3]) - max(top, box[1])
        if across > 0 and down > 0:
            covered += across * down
    return covered >= 0.5 * (right - left) * (bottom - top)


def covers_page(left: float, top: float, right: float, bottom: float, width: float, height: float) -> bool:
    """Whether a picture with these edges covers nearly all of a page of this size.

    >>> covers_page(-5, 0, 595, 800, 595, 842), covers_page(0, 0, 595, 421, 595, 842)
    (True, False)
    """
    across = max(0.0, min(right, width) - max(left, 0.0))
    down = max(0.0, min(bottom, height) - max(top, 0.0))
    return across * down >= _NEARLY_ALL * width * height


def is_readable(text: str) -> bool:
    """Whether a text layer says anything: letters or digits, and few characters its font could not name.

    >>> is_readable("Figure 3"), is_readable(" \\n"), is_readable("\\ufffd\\ufffd\\ufffd a")
    (True, False, False)
    """
    visible = "".join(text.split())
    unknown = len(_UNKNOWN.findall(visible))
    return any(map(str.isalnum, visible)) and unknown <= _UNKNOWN_ALLOWED * len(visible)
