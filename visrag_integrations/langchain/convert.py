"""Pages as LangChain Documents, and back. The only place that knows LangChain's metadata keys.

A page from a reader has the keys LangChain's own PDF loaders use (`source`, `page` from 0, ...) plus `doc_id`, `number`
from 1 and `image`. A Document is a page of ours when its metadata and its id say so. Any other, a piece of a page too,
keeps its id and metadata exactly as given.

LangChain tells Documents apart by their text. A page without any has a line in its place that names it:

    Page("d1", 3, text="", source="a.pdf")  <->  Document("[image of a.pdf, page 3]", ...)
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.documents import Document

from visrag_integrations import images
from visrag_integrations.grounding import remember_words
from visrag_integrations.images.urls import FetchUrls, data_url
from visrag_integrations.langchain.image_references import (
    known_picture,
    light_picture,
    picture_of,
    reference_to,
    remember_picture,
)
from visrag_integrations.types import Page, Query, ScoredPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

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
        else:
            metadata.setdefault("image", image or reference_to(page))
            if isinstance(metadata["image"], str):
                remember_picture(metadata["image"], page.picture)
    return Document(id=page.given_id or page.id, page_content=_content(page), metadata=metadata)


def found_page_to_document(page: Page, *, inline_images: bool = False) -> Document:
    """A page of a store as a Document; its words are kept in this process, so that evidence can be found on it."""
    return page_to_document(remember_words(page), inline_images=inline_images)


def hit_to_document(hit: ScoredPage, *, inline_images: bool = False, with_scores: bool = False) -> Document:
    """The page that was found; with `score` and `score_type` in its metadata where asked for."""
    document = found_page_to_document(hit.page, inline_images=inline_images)
    if with_scores:
        document.metadata.update(score=hit.score, score_type=hit.score_type)
    return document


def document_to_page(document: Document, id: str | None = None, *, tenant: str = "") -> Page:
    """The Document as a page.

    Args:
        document: One of ours is the page it was made from; any other becomes a page that gives it back unchanged.
        id: The id the page shall have; the Document's own, or a new one, when None.
        tenant: Whose page it is.

    >>> document_to_page(Document("Hi", id="7", metadata={"n": 1}))
    Page(doc_id='7', number=1, text='Hi', source='', metadata={'n': 1}, tenant='', given_id='7')
    """
    metadata = _without_search_keys(document.metadata)
    source = metadata.get("source")
    source = source if isinstance(source, str) else ""
    given = id or document.id or ""
    text = document.page_content
    if not is_page(metadata):
        given = given or str(uuid.uuid4())
        picture = _take_inline_picture(metadata)
        if picture is None and known_picture(metadata.get("image")) is not None:
            picture = light_picture(metadata["image"])
        if text == _stand_in(given, 1):
            text = ""
        return Page(source or given, _number(metadata), text, source, metadata, (), tenant, picture, given)

    doc_id, number = metadata["doc_id"], metadata["number"]
    if text == _stand_in(source or doc_id, number):
        text = ""
    reference = metadata.get("image")
    picture = light_picture(reference) if isinstance(reference, str) else None
    own = {key: value for key, value in metadata.items() if key not in _PAGE_KEYS}
    page = Page(doc_id, number, text, source, own, (), tenant, picture)
    if given in ("", page.id):
        return page
    # An id of somebody else's: the page must give it back, and all metadata with it.
    _take_inline_picture(metadata)  # it is in `picture`
    return Page(doc_id, number, text, source, metadata, (), tenant, picture, given)


def documents_to_pages(documents: Iterable[tuple[Document, str | None]], tenant: str = "") -> Iterator[Page]:
    """Documents on their way into a store, each with the id it shall have: all are kept, pieces of one page too.

    A Document without an id gets a new one. So does one that has the id of a page, when one of another text came before
    it: someone cut the page and let the pieces keep its id.
    """
    texts: dict[str, str] = {}  # of the pages so far, by id
    for document, id_ in documents:
        page = document_to_page(document, id_ or document.id or str(uuid.uuid4()), tenant=tenant)
        if id_ is None and not page.given_id and texts.setdefault(page.id, page.text) != page.text:
            page = document_to_page(document, str(uuid.uuid4()), tenant=tenant)
        yield page


def picture_to_page(
    uri: Any, metadata: Mapping[str, Any], id: str | None = None, *, fetch_urls: FetchUrls = False
) -> Page:
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
    """Whether a Document with this metadata is a page of ours or a piece of one: it has what `page_to_document` writes.

    >>> is_page({"source": "a.pdf", "page": 2, "doc_id": "d1", "number": 3}), is_page({"doc_id": "d1", "number": 3})
    (True, False)
    """
    doc_id, number = metadata.get("doc_id"), _whole(metadata.get("number"), -1)
    if not isinstance(doc_id, str) or not doc_id or number < 1:
        return False
    # Others use those two keys for things of their own. The page from 0 beside the number from 1 is ours.
    return isinstance(metadata.get("source"), str) and metadata.get("page") == number - 1


def of_tenant(page: Page, tenant: str) -> Page:
    """The page as this tenant's; one that is another's already stays it, and is refused by the store."""
    if page.tenant:
        return page
    return dataclasses.replace(page, tenant=tenant)


def page_id(id: str, tenant: str = "") -> str:
    """The id under which a store keeps what has this id in LangChain.

    >>> page = Page("d1", 3)
    >>> page_id(page.id) == page.id, page_id("7") == document_to_page(Document("Hi", id="7")).id
    (True, True)
    """
    return Page("-", 1, given_id=id, tenant=tenant).id


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


def _content(page: Page) -> str:
    """The page's text; a page or picture without any is named, so that two of them are not taken for one."""
    if page.text.strip():
        return page.text
    if not page.given_id:
        return _stand_in(page.source or page.doc_id, page.number)
    if is_page(page.metadata):
        # A page under another id. A Document of the user's own with the same two keys has no picture.
        if isinstance(page.metadata.get("image"), str):
            return _stand_in(page.source or page.doc_id, page.number)
    elif page.picture is not None and page.doc_id not in (page.source, page.given_id):
        return _stand_in(page.given_id, 1)  # of `picture_to_page`: no Document becomes such a page
    return page.text


def _stand_in(name: str, number: int) -> str:
    return f"[image of {name}, page {number}]"


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


def _picture_and_source(uri: Any, fetch_urls: FetchUrls) -> tuple[PictureSource, str]:
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
