"""Pages as LangChain Documents, and back. The only place that knows LangChain's metadata keys.

A page from a reader has the keys LangChain's own PDF loaders use (`source`, `page` from 0, `total_pages`, ...) plus
`doc_id`, `number` from 1 and `image`. A Document that is no page of ours keeps its id and metadata exactly as given.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from visrag_integrations import images
from visrag_integrations.grounding import remember_words
from visrag_integrations.images.urls import data_url
from visrag_integrations.langchain.image_references import picture_of, reference_to
from visrag_integrations.types import Page, Query, ScoredPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from visrag_integrations.images import PictureSource

_PAGE_KEYS = frozenset({"source", "doc_id", "number", "page", "image"})
"""What `page_to_document` writes into a Document's metadata beside the page's own."""
_SEARCH_KEYS = frozenset({"score", "score_type", "context_of"})
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
        # `source` and `page` stand first, as in LangChain's own loaders; the page's fields win over its metadata.
        own = {"source": page.source, "page": page.number - 1, "doc_id": page.doc_id, "number": page.number}
        metadata = {"source": page.source, "page": page.number - 1, **metadata, **own}
    if page.picture is not None:
        if inline_images:
            metadata["image"] = data_url(page.picture)
        elif "image" not in metadata:
            metadata["image"] = image or reference_to(page)
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
    metadata = _without_search_keys(document.metadata)
    source = metadata.get("source")
    source = source if isinstance(source, str) else ""
    given = id or document.id or ""
    if not is_page(metadata):
        given = given or str(uuid.uuid4())
        picture = _take_inline_picture(metadata)
        return Page(source or given, _number(metadata), document.page_content, source, metadata, (), "", picture, given)

    doc_id, number = metadata["doc_id"], metadata["number"]
    reference = metadata.pop("image", None)
    picture = picture_of(reference) if isinstance(reference, str) else None
    own = {key: value for key, value in metadata.items() if key not in _PAGE_KEYS}
    page = Page(doc_id, number, document.page_content, source, own, picture=picture)
    if given in ("", page.id):
        return page
    # An id of somebody else's: the page must give it back, and all metadata with it.
    return Page(doc_id, number, document.page_content, source, metadata, picture=picture, given_id=given)


def picture_to_page(uri: Any, metadata: Mapping[str, Any], id: str | None = None, *, fetch_urls: bool = False) -> Page:
    """A bare picture as page 1 of a document that is this picture, known by its bytes.

    Args:
        uri: A path, `file:` or data URL, encoded bytes, or a PIL image.
        metadata: Goes with it.
        id: The id it shall have; made from its bytes when None.
        fetch_urls: Whether http and https URLs are fetched.

    Raises:
        PictureError: It cannot be opened.
    """
    picture, source = _picture_and_source(uri, fetch_urls)
    source = str(metadata.get("source") or source)
    data = _picture_bytes(picture)
    digest = hashlib.sha256(data).hexdigest()
    if id is None:
        own = {key: value for key, value in metadata.items() if key != "source"}
        return Page.from_image(data, doc_id=digest, source=source, metadata=own)
    # A page with a given id has no metadata but its own, so the source must be among them.
    own = dict(metadata)
    if source:
        own = {"source": source, **own}
    return Page.from_image(data, doc_id=digest, source=source, metadata=own, given_id=id)


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
    if not isinstance(query, dict):
        return Query(image=query)
    image = query.get("image")
    text = query.get("text") or query.get("query") or query.get("question") or ""
    if isinstance(image, str):
        image = picture_of(image)
    if text and image is None:
        return text
    return Query(text, image)


def _without_search_keys(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as they were before a search; a user's own `score` stays where no search added to them."""
    if "score_type" not in metadata and "context_of" not in metadata:
        return dict(metadata)
    return {key: value for key, value in metadata.items() if key not in _SEARCH_KEYS}


def _take_inline_picture(metadata: dict[str, Any]) -> PictureSource | None:
    """The picture that a Document brings along as a data URL; it is taken out of the metadata."""
    image = metadata.get("image")
    if isinstance(image, str) and image.startswith("data:image/"):
        return picture_of(metadata.pop("image"))
    return None


def _picture_and_source(uri: Any, fetch_urls: bool) -> tuple[PictureSource, str]:
    if isinstance(uri, os.PathLike):
        return Path(uri), os.fspath(uri)
    if not isinstance(uri, str):
        return uri, ""
    picture = picture_of(uri, fetch_urls=fetch_urls)
    return picture, "" if uri.startswith("data:") else uri  # a data URL is no place where it came from


def _picture_bytes(picture: PictureSource) -> bytes:
    """The bytes of the picture's file; pixels that have none become a PNG."""
    if callable(picture):
        picture = picture()
    if not isinstance(picture, (bytes, Path)):
        return images.encode(picture, "PNG")
    images.open_encoded(picture).close()  # raises where it is no picture
    return picture.read_bytes() if isinstance(picture, Path) else picture


def _number(metadata: Mapping[str, Any]) -> int:
    """The number of a page of another loader, from 1; LangChain's `page` counts from 0."""
    return max(0, _whole(metadata.get("page"), 0)) + 1


def _whole(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
