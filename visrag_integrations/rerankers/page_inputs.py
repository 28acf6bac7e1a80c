"""What a reranker is shown of a query and of pages, and the one thing a scorer has to do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from visrag_integrations.errors import SettingError
from visrag_integrations.images import open_picture, to_rgb
from visrag_integrations.rerankers.published import Reads
from visrag_integrations.types import Page, Query

if TYPE_CHECKING:
    from PIL.Image import Image

OWN_SETTINGS = ("model", "url", "reads", "min_score", "batch_size", "max_chars", "on_note")
"""Arguments of `CrossEncoderReranker` itself; the others are its scorer's."""


@dataclass(frozen=True)
class PageInput:
    """A page, or a query, as a scorer reads it: a text, a picture, or both."""

    text: str = ""
    image: Image | None = None


class PairScorer(Protocol):
    """Scores pages against a query, those of one call together.

    Attributes:
        name: The model's.
        reads: What it is shown of a page where nobody says it.
        sees: Whether it can be shown pictures.
        at_once: How many calls of `score` may be under way together.
    """

    name: str
    reads: Reads
    sees: bool
    at_once: int

    def batch_size(self, reads: Reads) -> int: ...

    def fit(self, query: str, texts: Sequence[str]) -> tuple[str, list[str]]:
        """The query and the texts, each cut to what the model reads."""
        ...

    def score(self, query: PageInput, pages: Sequence[PageInput]) -> list[float]: ...

    def check_open(self) -> None: ...

    def close(self) -> None: ...


def query_input(query: str | Query, reads: Reads, name: str) -> PageInput:
    """The query as this reranker reads it.

    Raises:
        SettingError: It has only a picture, and the reranker reads text.
    """
    if isinstance(query, str):
        return PageInput(query)
    if query.image is None:
        return PageInput(query.text)
    if reads != "text":
        return PageInput(query.text, to_rgb(open_picture(query.image)))
    # The text alone is a fair question; a picture alone would be asked as "".
    if not query.text.strip():
        raise SettingError(
            f"The query is a picture, and the reranker {name} reads text. Search without it, or take one that sees "
            'pictures, with reads="image".'
        )
    return PageInput(query.text)


def readable(page: Page, reads: Reads) -> bool:
    """Whether the page has what the reranker reads; of "both", one is enough."""
    if reads == "text":
        return bool(page.text.strip())
    if reads == "image":
        return page.picture is not None
    return page.picture is not None or bool(page.text.strip())


def page_input(page: Page, text: str, reads: Reads) -> PageInput:
    """The page as the reranker reads it; its picture is opened now.

    Raises:
        PictureError: The picture cannot be opened.
    """
    if reads == "text":
        return PageInput(text)
    image = None
    if page.picture is not None:
        image = to_rgb(page.open_image())
    # With "image" the text is left out, though the page has one: that is what was asked for.
    if reads == "image":
        return PageInput("", image)
    return PageInput(text, image)
