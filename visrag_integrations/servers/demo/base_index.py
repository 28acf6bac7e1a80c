"""What the index of a knowledge base holds of its documents. A document may be stored under several sources."""

from __future__ import annotations

from visrag_integrations.servers.demo.base_files import BaseFiles
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import StoredDocument


def stored_pages(store: QdrantPageStore, files: BaseFiles) -> dict[str, tuple[int, int | None]]:
    """Document -> its pages that are indexed, and those it has."""
    found: dict[str, tuple[int, int | None]] = {}
    for document in store.documents():
        # Files with the same content are one stored document of several sources.
        for source in document.sources:
            name = files.name_of(source)
            # The pages of "a.pdf/notes.txt" are not pages of "a.pdf".
            if not is_inside(source, name):
                found[name] = (document.pages, document.total_pages)
    return found


def stored_documents(store: QdrantPageStore, files: BaseFiles, names: set[str]) -> list[StoredDocument]:
    """What is stored of these documents, with what lies inside of them."""
    found: list[StoredDocument] = []
    for document in store.documents():
        if any(files.name_of(source) in names for source in document.sources):
            found.append(document)
    return found


def remove_stored(store: QdrantPageStore, files: BaseFiles, name: str) -> None:
    """Remove the pages of a document; those that another one has too stay with that one."""
    for document in stored_documents(store, files, {name}):
        for source in document.sources:
            if files.name_of(source) == name:
                store.delete(doc_id=document.doc_id, source=source)


def is_inside(source: str, name: str) -> bool:
    """Whether a source lies inside of the document of that name, and is not the document itself.

    >>> is_inside("/bases/b/documents/a.pdf/notes.txt", "a.pdf"), is_inside("/bases/b/documents/a.pdf", "a.pdf")
    (True, False)
    """
    return source.replace("\\", "/").rpartition("/")[2] != name.rpartition("/")[2]
