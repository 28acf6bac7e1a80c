"""`VisRAGLoader` and `VisRAGBlobParser`: documents read into one LangChain Document per page."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.document_loaders import BaseBlobParser, BaseLoader

from visrag_integrations.images import EncodedPixels, Pixels
from visrag_integrations.images.sending import load
from visrag_integrations.langchain.convert import page_to_document
from visrag_integrations.langchain.image_references import reference_to_source
from visrag_integrations.readers import PageReader

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.documents.base import Blob

    from visrag_integrations.images import PictureSource
    from visrag_integrations.types import Page

PAGE_KEYS = frozenset({"page_label", "text_source"})
"""Metadata that are of the page; all others that readers give are of the whole file."""


class VisRAGLoader(BaseLoader):
    """Loads PDF, picture and office files, folders or lists of these: one Document a page.

    `page_content` is the page's text. `metadata["image"]` is a reference that opens later, with
    `open_document_image(document)`; documents given as bytes have none unless `inline_images` is on.

    A Document changes when its page does, and only then: `doc_id` is the path, and `image_sha256` is of the page's
    pixels. So LangChain's indexing API, which compares Documents, embeds the changed pages of a changed file only.

    Args:
        source: A path, bytes, a folder, or a list of these.
        reader: How pages are read; a `PageReader` of its own when None.
        inline_images: Put each picture into the metadata as a data URL. Hundreds of kilobytes a page.
        file_metadata: Add what the file says of itself: `total_pages`, `creationdate`, `moddate`, `creator`, `producer`
            and the like. A file that is written again then changes the Documents of all its pages.
        **settings: Of the `PageReader` that is made, for example `pages="1-3"`.
    """

    def __init__(
        self,
        source: Any,
        *,
        reader: PageReader | None = None,
        inline_images: bool = False,
        file_metadata: bool = False,
        **settings: Any,
    ) -> None:
        self.source, self.inline_images, self.file_metadata = source, inline_images, file_metadata
        self.reader = reader or PageReader(**settings)

    def lazy_load(self) -> Iterator[Document]:
        """One Document a page, as the pages are read."""
        for page in self.reader.read(self.source):
            yield _document(page, self.inline_images, self.file_metadata)


class VisRAGBlobParser(BaseBlobParser):
    """Parses blobs (from `FileSystemBlobLoader` and the like) into one Document a page.

    Args:
        reader: How pages are read; a `PageReader` of its own when None.
        inline_images: Put each picture into the metadata as a data URL.
        file_metadata: Add what the file says of itself. See `VisRAGLoader`.
        **settings: Of the `PageReader` that is made.
    """

    def __init__(
        self,
        *,
        reader: PageReader | None = None,
        inline_images: bool = False,
        file_metadata: bool = False,
        **settings: Any,
    ) -> None:
        self.inline_images, self.file_metadata = inline_images, file_metadata
        self.reader = reader or PageReader(**settings)

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """One Document a page; a blob's own metadata is kept."""
        path: str | None = None
        if blob.path is not None and blob.data is None:
            path = os.fspath(blob.path)
        own = dict(blob.metadata)
        own.pop("source", None)  # the Document says where its page is from
        for page in self.reader.read(path or blob.as_bytes(), name=blob.source):
            document = _document(page, self.inline_images, self.file_metadata, file=path)
            document.metadata.update(own)
            yield document


def _document(page: Page, inline_images: bool, file_metadata: bool, file: str | None = None) -> Document:
    """The page as a Document with a reference to its picture in the file that was read."""
    assert page.picture is not None  # readers give every page one
    metadata = dict(page.metadata)
    if not file_metadata:
        metadata = {key: value for key, value in metadata.items() if key in PAGE_KEYS}
    metadata["image_sha256"] = picture_hash(page.picture)
    path = file or page.source
    image: str | None = None
    # Not the hash of the file, which changes for all its pages when one does.
    doc_id = page.source or page.doc_id  # of bytes without a name: the hash of the bytes
    if os.path.isfile(path):
        image = reference_to_source(path, page.number, page.metadata.get("total_pages", 1))
        doc_id = os.path.abspath(path)
    known = dataclasses.replace(page, doc_id=doc_id, metadata=metadata)
    if inline_images:
        return page_to_document(known, inline_images=True)
    if image is not None:
        known = dataclasses.replace(known, metadata={**metadata, "image": image})
    # Without its picture: the Document has a reference; one that was read from bytes could open nothing later.
    return page_to_document(dataclasses.replace(known, picture=None))


def picture_hash(picture: PictureSource) -> str:
    """The same for the same pixels, or, of a picture that comes as a file, for the same file."""
    if isinstance(picture, (Pixels, EncodedPixels)):
        return hashlib.sha256(picture.digest.encode()).hexdigest()
    loaded = load(picture)
    if isinstance(loaded, bytes):
        return hashlib.sha256(loaded).hexdigest()
    about = f"{loaded.mode} {loaded.width}x{loaded.height}\n".encode()
    return hashlib.sha256(about + loaded.tobytes()).hexdigest()
