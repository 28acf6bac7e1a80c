"""The tool of UltraRAG's `corpus` server that makes image corpora: every kind of document that this library reads."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visrag_integrations import images
from visrag_integrations.errors import DocumentError, SettingError
from visrag_integrations.files import write_whole
from visrag_integrations.readers import PageReader
from visrag_integrations.readers.finding import find_documents, is_one_document
from visrag_integrations.servers.ultrarag.tool_table import Output, ToolSpec
from visrag_integrations.store.payload import pack_words
from visrag_integrations.types import Failure, Page

logger = logging.getLogger(__name__)

# An A4 page at 144 dots an inch, as UltraRAG draws them. Our readers have a budget of pixels instead of a resolution,
# so that a poster does not fill the memory; a letter page gets 149 dots an inch.
_PIXELS = 1190 * 1684
_QUALITY = 90  # of JPEG; UltraRAG's


class CorpusTools:
    """The tool; it holds nothing between calls.

    Args:
        folder: What `visrag ultrarag init` wrote; not used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, by the names UltraRAG's pipelines use."""
        return (ToolSpec(self.build_image_corpus, ("parse_file_path", "image_corpus_save_path", "skip_unreadable")),)

    def close(self) -> None:
        """Nothing is open."""

    def build_image_corpus(
        self, parse_file_path: str, image_corpus_save_path: str, skip_unreadable: bool = False
    ) -> Output:
        """Draw every page of a document, or of a folder of documents, and list them with their texts."""
        corpus = Path(image_corpus_save_path).absolute()
        if corpus.suffix != ".jsonl":
            raise SettingError(f"image_corpus_save_path is {image_corpus_save_path!r}; a corpus is a .jsonl file.")
        failed: list[Failure] = []
        rows: list[dict[str, Any]] = []
        try:
            for page, name in _named_pages(parse_file_path, failed):
                rows.append(_kept(page, name, len(rows), corpus.parent))
            if rows:
                lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
                write_whole(corpus, lines.encode("utf-8", "backslashreplace"))
        except OSError as err:
            raise SettingError(
                f"The corpus {corpus} cannot be written: {err.strerror or err} ({err.filename})."
            ) from err
        for failure in failed:
            logger.warning("%s: %s", failure.source, failure.error)
        if not rows or (failed and not skip_unreadable):
            raise SettingError(_what_failed(parse_file_path, corpus, len(rows), failed))
        return {}


def _named_pages(source: str, failed: list[Failure]) -> Iterator[tuple[Page, str]]:
    """Every page, and its document's name in the corpus: that of its file, with a number where two have the same."""
    reader = PageReader(max_pixels=_PIXELS)
    documents: list[Any] = [source]
    if not is_one_document(source):
        documents = list(find_documents(source))
    taken: set[str] = set()
    for document in documents:
        names: dict[str, str] = {}  # a document may hold others: files that are attached to a PDF
        try:
            for page in reader.read(document, on_error=failed.append):
                if page.doc_id not in names:
                    names[page.doc_id] = _free_name(Path(page.source).stem or "document", taken)
                yield page, names[page.doc_id]
        except DocumentError as err:
            failed.append(Failure(err.source, err.reason))


def _free_name(stem: str, taken: set[str]) -> str:
    """The name, or "name-2": a.pdf and sub/a.docx must not write over each other's pictures."""
    name, number = stem, 1
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name


def _kept(page: Page, name: str, number: int, folder: Path) -> dict[str, Any]:
    """The page's row; its picture is written below the folder."""
    image_id = f"{name}/page_{page.number - 1}.jpg"
    file = folder / "image" / image_id
    os.makedirs(file.parent, exist_ok=True)
    if page.picture is None:
        raise SettingError(f"Page {page.number} of {page.source} has no picture.")
    write_whole(file, images.encode(page.picture, "JPEG", _QUALITY), durable=False)
    return {
        "id": number,
        "image_id": image_id,
        "image_path": f"image/{image_id}",
        "contents": page.text,
        "words": pack_words(page.words),
        "source": page.source,
        "page": page.number,
    }


def _what_failed(source: str, corpus: Path, pages: int, failed: list[Failure]) -> str:
    if not failed:
        return f"{source!r} has no page."
    first = failed[0]
    what = f"{len(failed)} documents or pages of {source!r} could not be read, the first: {first.source}: {first.error}"
    if not pages:
        return f"{what}. No corpus was written."
    return (
        f"{what}. The other {pages} pages are in {corpus}. Put them right and run this again, or set "
        "skip_unreadable: true in the corpus server's parameter.yaml."
    )
