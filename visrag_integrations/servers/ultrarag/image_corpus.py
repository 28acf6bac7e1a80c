"""UltraRAG's image corpus: one JSON object a line, pictures in files beside it.

{"id": 0, "image_id": "report/page_0.jpg", "image_path": "image/report/page_0.jpg"}           UltraRAG's
{..., "contents": "its text", "words": "eJy...", "source": "docs/report.pdf", "page": 1}      and what ours add

A text corpus, {"id": 0, "contents": "..."}, is one of pages without pictures.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from visrag_integrations.errors import DatasetError, PictureError, VisRAGError
from visrag_integrations.evaluation.tables import picture_inside, read_rows
from visrag_integrations.images.pixels import read_file
from visrag_integrations.store.payload import unpack_words
from visrag_integrations.types import Page

CORPUS = "corpus"
"""Metadata of an indexed page: the file of the corpus it is of."""
CONTENT = "content_sha256"
"""Metadata of an indexed page: its picture file and its text, to see whether the corpus has changed."""
# Fields of the page itself, or ours; the rest of a row becomes metadata, which filters can use.
_TAKEN = frozenset(
    {"contents", "words", "source", "sources", "page", "number", "doc_id", "image", CORPUS, CONTENT, "corpus_id"}
)


def read_corpus(path: Path) -> list[Page]:
    """The pages of a corpus, in its order; their pictures are opened when needed.

    Raises:
        DatasetError: There is no such file, or a line of it is no row of a corpus.
    """
    if not path.is_file():
        raise DatasetError(
            str(path),
            "there is no such corpus. Build one with build_image_corpus.yaml, or say where it is: corpus_path in the "
            "retriever's parameter.yaml. Paths are relative to where ultrarag is started.",
        )
    if path.suffix != ".jsonl":
        raise DatasetError(str(path), "a corpus is a .jsonl file: one JSON object a line.")
    pages: list[Page] = []
    lines: dict[str, int] = {}
    for number, row in enumerate(read_rows(path, path.parent), 1):
        page = _page(row, path, f"{path}, line {number}")
        if page.id in lines:
            raise DatasetError(f"{path}, line {number}", f"is the same page as line {lines[page.id]}: ids must differ.")
        lines[page.id] = number
        pages.append(page)
    if not pages:
        raise DatasetError(str(path), "holds no page.")
    return pages


def _page(row: dict[str, Any], corpus: Path, where: str) -> Page:
    name = row.get("image_id", row.get("id"))
    if name is None or str(name) == "":
        raise DatasetError(where, "a page needs image_id or id.")
    name = str(name)
    contents = row.get("contents") or ""
    if not isinstance(contents, str):
        raise DatasetError(where, f"contents is {type(contents).__name__}, not text.")
    picture: Path | None = None
    if row.get("image_path"):
        picture = picture_inside(corpus.parent, str(row["image_path"]), where)
    elif not contents:
        raise DatasetError(where, "has neither image_path nor contents.")

    doc_id, number = name, 1
    given = row.get("page")
    # Ours say which page of which document it is: "report/page_0.jpg" is page 1 of "report".
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1 and "/" in name:
        doc_id, number = name.rpartition("/")[0], given
    try:
        words = unpack_words(row["words"]) if row.get("words") else ()
    except VisRAGError as err:
        raise DatasetError(where, f"words cannot be read: {err}") from err
    metadata = {key: value for key, value in row.items() if key not in _TAKEN}
    metadata |= {"corpus_id": name, CORPUS: str(corpus.resolve()), CONTENT: _content_of(picture, contents)}
    source = str(row.get("source") or name)
    return Page(doc_id, number, contents, source=source, metadata=metadata, words=words, picture=picture)


def _content_of(picture: Path | None, contents: str) -> str:
    """A digest of the page as the corpus has it; "" for a picture that cannot be read, which is said when it is."""
    digest = hashlib.sha256(contents.encode("utf-8", "backslashreplace"))
    if picture is not None:
        try:
            digest.update(read_file(picture))
        except PictureError:
            return ""
    return digest.hexdigest()
