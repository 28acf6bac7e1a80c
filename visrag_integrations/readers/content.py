"""What every kind of document gives its reader: pages as pictures with text and word boxes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations.types import Word

if TYPE_CHECKING:
    from PIL.Image import Image

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
    """

    picture: Image | bytes
    text: str = ""
    words: tuple[Word, ...] = ()
    label: str = ""
    blank: bool = False


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


def is_blank(image: Image) -> bool:
    """Whether every pixel of an RGB picture has the same colour."""
    bands: Any = image.getextrema()
    return all(low == high for low, high in bands)


def is_readable(text: str) -> bool:
    """Whether a text layer says anything: letters or digits, and few characters its font could not name.

    >>> is_readable("Figure 3"), is_readable(" \\n"), is_readable("\\ufffd\\ufffd\\ufffd a")
    (True, False, False)
    """
    visible = [c for c in text if not c.isspace()]
    unknown = sum(c == "\ufffd" or "\ue000" <= c <= "\uf8ff" for c in visible)
    return any(c.isalnum() for c in visible) and unknown <= 0.3 * len(visible)
