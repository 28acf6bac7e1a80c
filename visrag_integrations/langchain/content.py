"""`pages_to_content`: found pages as content blocks for any chat model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.documents import Document

from visrag_integrations.errors import SettingError
from visrag_integrations.generation.shown_pages import Captions, shown_pages
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.langchain.messages import shown_block
from visrag_integrations.types import Page, ScoredPage


def pages_to_content(
    documents: Iterable[Document | Page | ScoredPage],
    *,
    captions: Captions = True,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
    text_only: bool = False,
) -> list[dict[str, Any]]:
    """Pages as LangChain's standard content blocks, for a prompt of your own and any chat model that reads images.

    A page without a picture becomes a text block. Text blocks have nothing but text; image blocks say besides which
    page they show, so that ChatEVisRAG can cite it. Picture files that need not be changed are shown as they are,
    without what they tell about places and cameras.

    >>> pages_to_content([Document("Twelve units.", metadata={"source": "a.pdf", "page": 2})])
    [{'type': 'text', 'text': '[1] a.pdf, page 3:'}, {'type': 'text', 'text': 'Twelve units.'}]

    Args:
        documents: Of a retriever, a loader or a vector store; pages of the core too.
        captions: Before each page what may be cited. A function of its place (from 1) and the page makes others; False
            none.
        max_pixels: Of a picture; larger ones are scaled down.
        max_bytes: Of a picture's file, before it becomes base64, which is a third longer.
        text_only: The text of every page instead of its picture, for models that see none.

    Raises:
        PictureError: A picture cannot be opened.
    """
    blocks: list[dict[str, Any]] = []
    # One after the other: of many pages only one picture is open at a time.
    pages = map(_page, documents)
    for shown in shown_pages(pages, captions=captions, max_pixels=max_pixels, max_bytes=max_bytes, text_only=text_only):
        if shown.caption:
            blocks.append({"type": "text", "text": shown.caption})
        blocks.append(shown_block(shown))
    return blocks


def _page(given: Any) -> Page:
    if isinstance(given, Document):
        return document_to_page(given)
    if isinstance(given, ScoredPage):
        return given.page
    if isinstance(given, Page):
        return given
    raise SettingError(f"pages_to_content takes Documents and pages, not {type(given).__name__}.")
