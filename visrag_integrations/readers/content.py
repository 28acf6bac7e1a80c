"""What every kind of document gives its reader: pages as pictures with text and word boxes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from visrag_integrations.images import PictureSource
from visrag_integrations.types import Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from visrag_integrations.ocr import Detail

# Of the page's area. A stamp or a header of a scan covers less; the text of a page that was written covers more.
_LITTLE = 0.05
# Of the page's area: scanners leave out margins, and drawings that fill a page are seldom one picture.
_NEARLY_ALL = 0.8
# Of a text's characters: with more, a reader could not make sense of it, and OCR does better.
_UNKNOWN_ALLOWED = 0.3
_UNKNOWN = re.compile("[\ufffd\ue000-\uf8ff]")  # the replacement character, and Unicode's private use area
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


_as_word = functools.partial(tuple.__new__, Word)  # what `Word._make` does, in a third of its time


@dataclass(frozen=True)
class PageContent:
    """One page as its engine gives it.

    Attributes:
        picture: RGB pixels, or the bytes of a picture file that is good as it is.
        text: The text layer.
        words: Its words with their boxes.
        label: The page's own number ("iv"); "" where it has none.
        blank: Every pixel has one colour.
        warnings: What must be said about the page.
        notes: What a speaker would say to it; not on the picture.
        scan: One picture covers the page, and the text layer next to nothing of it (a stamp, a header).
        detail: The page in all its pixels, part by part, while the document is open; None where the picture is all.
    """

    picture: PictureSource
    text: str = ""
    words: tuple[Word, ...] = ()
    label: str = ""
    blank: bool = False
    scan: bool = False
    detail: Detail | None = None
    warnings: tuple[str, ...] = ()
    notes: str = ""


class DocumentContent(Protocol):
    """An open document. `page` may raise anything; the reader turns it into a `PageError`.

    `metadata` goes to each page; but its "warnings", a sequence of sentences, are about the document as a whole.
    """

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


def has_unprintable(texts: Sequence[str]) -> bool:
    """Whether `clean_text` would change any of these."""
    return _UNPRINTABLE.search("".join(texts)) is not None


def make_words(texts: Sequence[str], edges: NDArray[np.float64]) -> tuple[Word, ...]:
    """Words from their texts and edges, which are fractions of the page and are held inside it.

    >>> make_words(["a"], np.array([[0.1, 0.0, 1.2, 0.5]]))
    (Word(text='a', box=(0.1, 0.0, 1.0, 0.5)),)
    """
    # A page has hundreds of words, so all are worked on together: one at a time would cost as much as drawing the page.
    left, top, right, bottom = np.round(np.clip(edges, 0.0, 1.0), 5).T.tolist()
    boxes = zip(left, top, right, bottom, strict=True)
    return tuple(map(_as_word, zip(texts, boxes, strict=True)))


def covers_little(words: Sequence[Word]) -> bool:
    """Whether the words stand on less than a twentieth of their page; there must be some.

    >>> covers_little([Word("RECEIVED", (0.7, 0.02, 0.9, 0.05))]), covers_little([Word("A", (0, 0, 1, 1))])
    (True, False)
    """
    area = 0.0
    for _, (left, top, right, bottom) in words:
        area += (right - left) * (bottom - top)
        if area >= _LITTLE:  # of a page of text, after a few lines
            return False
    return bool(words)


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
    if not any(map(str.isalnum, text)):
        return False
    unknown = len(_UNKNOWN.findall(text))
    return not unknown or unknown <= _UNKNOWN_ALLOWED * len("".join(text.split()))
