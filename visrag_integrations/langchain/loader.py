"""`VisRAGLoader` and `VisRAGBlobParser`: documents read into one LangChain Document per page."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.document_loaders import BaseBlobParser, BaseLoader

from visrag_integrations.langchain.convert import page_to_document
from visrag_integrations.langchain.image_references import reference_to_source
from visrag_integrations.readers import PageReader

if TYPE_CHECKING:
    from langchain_core.documents import Document
    from langchain_core.documents.base import Blob

    from visrag_integrations.types import Page


class VisRAGLoader(BaseLoader):
    """Loads PDF, picture and office files, folders or lists of these: one Document a page.

    `page_content` is the page's text. `metadata["image"]` is a reference that opens later, with
    `open_document_image(document)`; documents given as bytes have none unless `inline_images` is on.

    Args:
        source: A path, bytes, a folder, or a list of these.
        reader: How pages are read; a `PageReader` of its own when None.
        inline_images: Put each picture into the metadata as a data URL. Hundreds of kilobytes a page.
        **settings: Of the `PageReader` that is made, for example `pages="1-3"`.
    """

    def __init__(
        self, source: Any, *, reader: PageReader | None = None, inline_images: bool = False, **settings: Any
    ) -> None:
        self.source, self.inline_images = source, inline_images
        self.reader = reader or PageReader(**settings)

    def lazy_load(self) -> Iterator[Document]:
        """One Document a page, as the pages are read."""
        for page in self.reader.read(self.source):
            yield _document(page, self.inline_images)


class VisRAGBlobParser(BaseBlobParser):
    """Parses blobs (from `FileSystemBlobLoader` and the like) into one Document a page.

    Args:
        reader: How pages are read; a `PageReader` of its own when None.
        inline_images: Put each picture into the metadata as a data URL.
        **settings: Of the `PageReader` that is made.
    """

    def __init__(self, *, reader: PageReader | None = None, inline_images: bool = False, **settings: Any) -> None:
        self.inline_images = inline_images
        self.reader = reader or PageReader(**settings)

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """One Document a page; a blob's own metadata is kept."""
        path: str | None = None
        if blob.path is not None and blob.data is None:
            path = os.fspath(blob.path)
        own = dict(blob.metadata)
        own.pop("source", None)  # the Document says where its page is from
        for page in self.reader.read(path or blob.as_bytes(), name=blob.source):
            document = _document(page, self.inline_images, file=path)
            document.metadata.update(own)
            yield document


def _document(page: Page, inline_images: bool, file: str | None = None) -> Document:
    """The page as a Document with a reference to its picture in the file that was read."""
    if inline_images:
        return page_to_document(page, inline_images=True)
    path = file or page.source
    if os.path.isfile(path):
        image = reference_to_source(path, page.number, page.metadata.get("total_pages", 1))
        return page_to_document(page, image=image)
    # Read from bytes: nothing could be opened later.
    document = page_to_document(dataclasses.replace(page, picture=None))
    document.metadata.pop("image", None)
    return document
