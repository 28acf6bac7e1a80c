"""Pages as LangChain Documents, and back. The only place that knows LangChain's metadata keys.

A page from a reader has the keys LangChain's own PDF loaders use (`source`, `page` from 0, `total_pages`, ...) plus
`doc_id`, `number` from 1 and `image`. A Document that is no page of ours keeps its id and metadata exactly as given.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from visrag_integrations.grounding import remember_words
from visrag_integrations.images.urls import data_url
from visrag_integrations.langchain.image_references import picture_of, reference_to
from visrag_integrations.types import Page, Query, ScoredPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visrag_integrations.images import PictureSource

_FIELDS = frozenset({"source", "doc_id", "number", "page", "image"})
_FOUND = frozenset({"score", "score_type", "context_of"})
"""What a search adds to a Document's metadata."""


def page_to_document(page: Page, *, image: str | None = None, inline_images: bool = False) -> Document:
    """The page as a Document whose `page_content` is its text.

    >>> page_to_document(Page("d1", 3, text="Hi", source="a.pdf")).metadata
    {'source': 'a.pdf', 'page': 2, 'doc_id': 'd1', 'number': 3}

    Args:
        page: The page.
        image: The reference of its picture; made from the page when None.
        inline_images: Put the picture itself into the metadata, as a data URL.
    """
    metadata: dict[str, Any] = dict(page.metadata)
    if not page.given_id:
        own = {"source": page.source, "page": page.number - 1, "doc_id": page.doc_id, "number": page.number}
        metadata = {"source": page.source, "page": page.number - 1, **metadata, **own}
    if page.picture is not None and (inline_images or "image" not in metadata):
        metadata["image"] = data_url(page.picture) if inline_images else image or reference_to(page)
    return Document(id=page.given_id or page.id, page_content=page.text, metadata=metadata)


def found_page_to_document(page: Page, *, inline_images: bool = False) -> Document:
    """A page of a store as a Document; its words are kept in this process, so that evidence can be found on it."""
    return page_to_document(remember_words(page), inline_images=inline_images)


def hit_to_document(hit: ScoredPage, *, inline_images: bool = False) -> Document:
    """The page that was found, with `score` and `score_type` in its metadata."""
    document = found_page_to_document(hit.page, inline_images=inline_images)
    document.metadata.update(score=hit.score, score_type=hit.score_type)
    return document


def document_to_page(document: Document, id: str | None = None) -> Page:
    """The Document as a page.

    Args:
        document: One of ours is the page it was made from; any other becomes a page that gives it back unchanged.
        id: The id the page shall have; the Document's own, or a new one, when None.

    >>> document_to_page(Document("Hi", id="7", metadata={"n": 1}))
    Page(doc_id='7', number=1, text='Hi', source='', metadata={'n': 1}, tenant='', given_id='7')
    """
    found = "score_type" in document.metadata or "context_of" in document.metadata
    metadata = {key: value for key, value in document.metadata.items() if not (found and key in _FOUND)}
    source = metadata.get("source")
    source = source if isinstance(source, str) else ""
    given = id or document.id or ""
    if not is_page(metadata):
        given = given or str(uuid.uuid4())
        picture = _inline_picture(metadata)
        return Page(source or given, _number(metadata), document.page_content, source, metadata, (), "", picture, given)
    doc_id, number = metadata["doc_id"], metadata["number"]
    reference = metadata.pop("image", None)
    picture = picture_of(reference) if isinstance(reference, str) else None
    page = Page(doc_id, number, document.page_content, source, _without_fields(metadata), picture=picture)
    if given in ("", page.id):
        return page
    return Page(doc_id, number, document.page_content, source, metadata, picture=picture, given_id=given)


def is_page(metadata: Mapping[str, Any]) -> bool:
    """Whether a Document with this metadata is a page of ours: it says which document, and which page of it.

    >>> is_page({"doc_id": "d1", "number": 3}), is_page({"source": "a.pdf", "page": 2})
    (True, False)
    """
    doc_id = metadata.get("doc_id")
    return isinstance(doc_id, str) and bool(doc_id) and _whole(metadata.get("number"), -1) > 0


def page_id(id: str) -> str:
    """The id under which a store keeps what has this id in LangChain.

    >>> page = Page("d1", 3)
    >>> page_id(page.id) == page.id, page_id("7") == document_to_page(Document("Hi", id="7")).id
    (True, True)
    """
    return Page("-", 1, given_id=id).id


def to_query(query: Any) -> str | Query:
    """What a retriever was asked, as the core takes it: a text, a `Query`, a picture, or a dict of text and image.

    >>> to_query({"text": "like this"})
    'like this'
    """
    if isinstance(query, (str, Query)):
        return query
    if isinstance(query, dict):
        image = query.get("image")
        text = query.get("text") or query.get("query") or query.get("question") or ""
        return text if image is None and text else Query(text, picture_of(image) if isinstance(image, str) else image)
    return Query(image=query)


def _without_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in _FIELDS}


def _inline_picture(metadata: dict[str, Any]) -> PictureSource | None:
    """The picture that a Document brings along as a data URL; it is taken out of the metadata."""
    image = metadata.get("image")
    if isinstance(image, str) and image.startswith("data:image/"):
        return picture_of(metadata.pop("image"))
    return None


def _number(metadata: Mapping[str, Any]) -> int:
    return max(0, _whole(metadata.get("page"), 0)) + 1


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
