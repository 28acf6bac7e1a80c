"""Which documents a store holds, and which of their files can be read again."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from visrag_integrations.ingestion.sources import outer_file
from visrag_integrations.readers.finding import find_documents
from visrag_integrations.readers.remote import is_url
from visrag_integrations.store import QdrantPageStore

_SHA256 = re.compile("[0-9a-f]{64}")

GONE = "its file is gone"


@dataclass
class DocumentInStore:
    """A document of the store, as far as reading it again is concerned.

    Attributes:
        tenant: Whose it is.
        doc_id: Its id.
        sources: Where it was found.
        is_read: Whether a reader made it; the pages of others are their owner's.
        pages: How many of its pages are stored.
    """

    tenant: str
    doc_id: str
    sources: tuple[str, ...]
    is_read: bool
    pages: int = 0


def documents_in(store: QdrantPageStore) -> list[DocumentInStore]:
    """Every document of every tenant."""
    found: dict[tuple[str, str], DocumentInStore] = {}
    for page in store.scroll():
        key = (page.tenant, page.doc_id)
        if key not in found:
            sources = tuple(page.metadata.get("sources") or (page.source,))
            # A reader names a document by its bytes; a host or a program gives a name of its own, and made the page.
            is_read = not page.given_id and _SHA256.fullmatch(page.doc_id) is not None and bool(page.source)
            found[key] = DocumentInStore(page.tenant, page.doc_id, sources, is_read)
        found[key].pages += 1
    return list(found.values())


class ReadableSources:
    """Tells which sources may be read again, and why others cannot.

    Args:
        given: The files, folders and URLs that may be read; None allows every source that is asked for.
    """

    def __init__(self, given: Any) -> None:
        self._allowed: set[str] | None = None
        if given is not None:
            self._allowed = {_place_of(os.fspath(each)) for each in _named(given)}

    def why_not(self, source: str) -> str:
        """Why a source cannot be read again; "" when it can."""
        if source.startswith("bytes:"):
            return "it was given as bytes, not as a file"
        if not self._allows(source):
            return "it is not among the files that were given"
        if is_url(source) or os.path.isfile(source) or outer_file(os.path.abspath(source)):
            return ""
        return GONE

    def _allows(self, source: str) -> bool:
        if self._allowed is None:
            return True
        place = _place_of(source)
        # "outer.pdf/inner.pdf" is read with its outer file.
        return place in self._allowed or os.path.dirname(place) in self._allowed


def _named(given: Any) -> Iterable[Any]:
    for each in find_documents(given):
        if not isinstance(each, bytes):
            yield each


def _place_of(source: str) -> str:
    if is_url(source):
        return source
    return os.path.abspath(source)


def to_read(documents: Iterable[DocumentInStore], readable: ReadableSources) -> dict[str, list[str]]:
    """The sources to read for each tenant, each once; files inside of others come with them."""
    by_tenant: dict[str, dict[str, None]] = {}
    for document in documents:
        if not document.is_read:
            continue
        sources = by_tenant.setdefault(document.tenant, {})
        for source in document.sources:
            if not readable.why_not(source):
                is_inner = not is_url(source) and not os.path.isfile(source)
                outer = outer_file(os.path.abspath(source)) if is_inner else None
                sources[outer_source(source) if outer else source] = None
    return {tenant: list(sources) for tenant, sources in by_tenant.items()}


def outer_source(source: str) -> str:
    """The source of the file around one: "a.pdf" of "a.pdf/b.pdf"."""
    return source.rpartition("/")[0]


def is_surely_gone(source: str) -> bool:
    """Whether a file is gone from a folder that is there: a share that is not mounted looks like an empty folder."""
    folder = os.path.dirname(os.path.abspath(source))
    try:
        return bool(os.listdir(folder))
    except OSError:
        return False
