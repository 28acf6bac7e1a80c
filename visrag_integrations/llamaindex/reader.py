"""`VisRAGReader`: documents read into one `ImageDocument` per page."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from llama_index.core.readers.base import BasePydanticReader
from llama_index.core.schema import Document, NodeRelationship, RelatedNodeInfo
from llama_index.core.utils import get_cache_dir

from visrag_integrations import images
from visrag_integrations.errors import DocumentError, DocumentLimitError, SettingError
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.llamaindex.convert import page_to_document
from visrag_integrations.readers import PageReader
from visrag_integrations.store.picture_files import SUFFIXES, PictureFolder, reference_of
from visrag_integrations.types import Page

_QUALITY = 95
"""Of JPEGs: embedders look at these pictures too, so few artefacts."""


class VisRAGReader(BasePydanticReader):
    """Reads PDF, picture and office files into one `ImageDocument` a page; also a `file_extractor` for directories.

    Page pictures are written to `image_dir`, each under the sha256 of its bytes, so that documents stay small and
    survive being stored and loaded. Ids are made of path and page number: reading a changed file again changes the
    documents of its changed pages only.

    >>> VisRAGReader(pages="1-3").load_data("report.pdf")  # doctest: +SKIP

    Args:
        reader: How pages are read; a `PageReader` of its own when None.
        image_dir: Where page pictures are kept; a folder in LlamaIndex's cache folder when None.
        settings: Of the `PageReader` that is made; further keyword arguments too, for example `ocr="never"`.
    """

    image_dir: str | None = Field(default=None, description="Where page pictures are kept.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the page reader.")
    _reader: PageReader = PrivateAttr()

    def __init__(
        self,
        reader: PageReader | None = None,
        *,
        image_dir: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        is_remote: bool = False,
        **more: Any,
    ) -> None:
        more.pop("class_name", None)
        own = [field.name for field in dataclasses.fields(PageReader)]
        known = [*own, "reader", "image_dir", "settings", "is_remote"]
        check_arguments("VisRAGReader", [*more, *(settings or {})], known)
        if reader is not None and (more or settings):
            names = ", ".join([*more, *(settings or {})])
            raise SettingError(f"{names}: for a reader that is made here; the one you give has its own settings.")
        if reader is None:
            reader = PageReader(**{**(settings or {}), **more})
        fields: dict[str, Any] = {"settings": _settings_of(reader), "is_remote": is_remote}
        if image_dir is not None:
            fields["image_dir"] = os.path.abspath(image_dir)
        super().__init__(**fields)
        self._reader = reader

    @classmethod
    def class_name(cls) -> str:
        return "VisRAGReader"

    def __setstate__(self, state: Any) -> None:
        BaseModel.__setstate__(self, state)  # as it was; LlamaIndex would make a new one, without the password

    def lazy_load_data(
        self, file: Any, extra_info: Mapping[str, Any] | None = None, fs: Any = None
    ) -> Iterable[Document]:
        """One document a page, as the pages are read.

        Args:
            file: A path, bytes, a folder, or a list of these.
            extra_info: More metadata for every document.
            fs: An fsspec filesystem that holds the files; the local one when None.
        """
        pictures = PictureFolder(self.image_dir or Path(get_cache_dir(), "visrag_pictures"))
        # One document behind, because a document names the next one.
        before: Document | None = None
        for page in self._pages(file, fs):
            document = self._document(page, pictures, extra_info)
            if before is not None:
                if before.metadata["doc_id"] == document.metadata["doc_id"]:
                    before.relationships[NodeRelationship.NEXT] = RelatedNodeInfo(node_id=document.id_)
                    document.relationships[NodeRelationship.PREVIOUS] = RelatedNodeInfo(node_id=before.id_)
                yield before
            before = document
        if before is not None:
            yield before

    def load_data(self, file: Any, extra_info: Mapping[str, Any] | None = None, fs: Any = None) -> list[Document]:
        """One document a page. See `lazy_load_data`."""
        return list(self.lazy_load_data(file, extra_info, fs))

    def _pages(self, file: Any, fs: Any) -> Iterable[Page]:
        if fs is None:
            yield from self._reader.read(file)
            return
        for path in _paths_on(fs, file):
            yield from self._reader.read(self._download(fs, path), name=path)

    def _download(self, fs: Any, path: str) -> bytes:
        try:
            # Before anything is read: the file may be larger than the memory.
            size = fs.size(path)
            if size is not None and size > self._reader.max_bytes:
                raise DocumentLimitError(path, f"{size} bytes are more than max_bytes={self._reader.max_bytes}.")
            data: bytes = fs.cat_file(path)
        except OSError as err:
            raise DocumentError(path, f"cannot be read from {type(fs).__name__}: {err}.") from err
        return data

    def _document(self, page: Page, pictures: PictureFolder, extra: Mapping[str, Any] | None) -> Document:
        source = page.source
        if os.path.exists(source):
            source = os.path.abspath(source)
        kind = self._reader.picture_format or "JPEG"
        assert page.picture is not None  # readers give every page one
        # Under the hash of its bytes: a page that did not change is the same file after the document changed.
        data = images.encode(page.picture, kind, _QUALITY)
        reference = reference_of(data, "pages", SUFFIXES[kind.upper()])
        pictures.save(data, reference)
        known = dataclasses.replace(page, doc_id=source, source=source)
        digest = hashlib.sha256(data).hexdigest()
        return page_to_document(known, os.path.abspath(pictures.root / reference), digest, extra)


def _settings_of(reader: PageReader) -> dict[str, Any]:
    """The settings that differ from the defaults; never the password."""
    default = PageReader()
    settings = {}
    for field in dataclasses.fields(reader):
        value = getattr(reader, field.name)
        if field.name != "password" and value != getattr(default, field.name):
            settings[field.name] = value
    return settings


def _paths_on(fs: Any, file: Any) -> Iterable[str]:
    """The files behind a path, a folder, or a list of these, on that filesystem."""
    if not isinstance(file, (str, os.PathLike)):
        for one in file:
            yield from _paths_on(fs, one)
        return
    path = str(file)
    if fs.isdir(path):
        yield from sorted(fs.find(path))
    else:
        yield path
