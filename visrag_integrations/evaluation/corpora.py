"""The pages of a corpus: doubles, the documents they are of, and whether two corpora are the same pages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from visrag_integrations.errors import DatasetError
from visrag_integrations.evaluation.rows import page_of
from visrag_integrations.evaluation.sets import page_key
from visrag_integrations.evaluation.tables import Row
from visrag_integrations.types import Page

logger = logging.getLogger(__name__)


def corpus_pages(rows: Iterable[Row], name: str, source: str) -> tuple[Page, ...]:
    """The rows of a corpus as pages; a row that is there twice counts once.

    Raises:
        DatasetError: Two pages have one id, and are not the same.
    """
    pages: dict[str, Page] = {}
    doubles: list[str] = []
    for number, row in enumerate(rows, 1):
        where = f"{source}, corpus row {number}"
        page = page_of(row, where, name)
        before = pages.setdefault(page.doc_id, page)
        if before is page:
            continue
        if before.text != page.text or _picture(before) != _picture(page):
            raise DatasetError(where, f"page {page.doc_id!r} was there before, and is another one; ids must differ.")
        doubles.append(page.doc_id)
    if doubles:
        logger.warning(
            "%s: the corpus has %d pages more than once, such as %r; each counts once",
            source, len(doubles), doubles[0],
        )  # fmt: skip
    return by_document(tuple(pages.values()))


def by_document(pages: tuple[Page, ...]) -> tuple[Page, ...]:
    """The pages as those of their documents, where the set says of each page which one of which document it is.

    What the set calls the page stays in the metadata (`corpus_id`), which is how judgements name it.
    """
    numbers: list[int] = []
    places: set[tuple[str, int]] = set()
    for page in pages:
        document = page.metadata.get("document_id")
        number = page.metadata.get("page_number")
        if document is None or isinstance(number, bool) or not isinstance(number, int) or number < 0:
            return pages
        numbers.append(number)
        places.add((document, number))
    if len(places) < len(pages):
        logger.info("two pages are said to be the same page of a document: pages keep the set's own ids")
        return pages
    # Pages count from 1 here. A set that has a page 0 counts from 0.
    shift = int(0 in numbers)
    placed: list[Page] = []
    for page, number in zip(pages, numbers, strict=True):
        document = str(page.metadata["document_id"])
        source = f"{page.source.rpartition('/')[0]}/{document}"
        metadata = dict(page.metadata)
        del metadata["document_id"], metadata["page_number"]
        placed.append(replace(page, doc_id=document, number=number + shift, source=source, metadata=metadata))
    return tuple(placed)


def is_same_corpus(one: Sequence[Page], other: Sequence[Page]) -> bool:
    """Whether two parts of a set have the same pages: equal ids and texts in the same order, and equal pictures.

    Only the pictures of the first, the middle and the last page are compared: a set of six languages has six copies of
    thousands of pictures.
    """
    if len(one) != len(other):
        return False
    for page, twin in zip(one, other, strict=True):
        if (page_key(page), page.text) != (page_key(twin), twin.text):
            return False
    if not one:
        return True
    compared = {0, len(one) // 2, len(one) - 1}
    return all(_picture(one[place]) == _picture(other[place]) for place in compared)


def _picture(page: Page) -> object:
    """What can be compared of a page's picture: its bytes, as they are stored."""
    picture = page.picture
    if callable(picture):
        return picture()
    if isinstance(picture, Path) and picture.is_file():
        return picture.read_bytes()
    return picture
