"""What an indexing run did, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from visrag_integrations.readers.events import ReadingWarning
from visrag_integrations.types import Failure


@dataclass(frozen=True)
class IndexReport:
    """What an indexing run did. All but `documents` and `seconds` are counted in pages.

    Attributes:
        documents: Documents of the given sources that are now in the index.
        pages: Their pages that are now in the index: added + unchanged.
        added: Pages that are new in the index.
        unchanged: Pages that were there already, in a file that changed too.
        removed: Pages that are gone from their file, or with it.
        failed: Every document and page that could not be indexed, by name and reason.
        seconds: Wall-clock time of the run.
        doc_ids: The ids of those documents, in the order they were met.
        warnings: What must be said about documents that were read: missing fonts, what of them was left out.
        left_out: Files of the given folders that are not read, because of their kind.
        embedded: Pages the embedder made vectors for; the others were there, or equal to one that was.
    """

    documents: int = 0
    pages: int = 0
    added: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: tuple[Failure, ...] = ()
    seconds: float = 0.0
    doc_ids: tuple[str, ...] = ()
    embedded: int = 0
    warnings: tuple[ReadingWarning, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The report as `visrag index --json` prints it.

        >>> IndexReport(documents=1, pages=2, added=2).as_dict()["pages"]
        2
        """
        # `page` only where it is a page that failed: of a whole document there is none.
        failed: list[dict[str, Any]] = []
        for failure in self.failed:
            entry: dict[str, Any] = {"source": failure.source, "error": failure.error}
            if failure.page is not None:
                entry["page"] = failure.page
            failed.append(entry)
        return {
            "documents": self.documents,
            "pages": self.pages,
            "added": self.added,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "failed": failed,
            "warnings": [_warning_dict(warning) for warning in self.warnings],
            "left_out": list(self.left_out),
            "seconds": round(self.seconds, 3),
        }


def _warning_dict(warning: ReadingWarning) -> dict[str, Any]:
    entry: dict[str, Any] = {"source": warning.source, "warning": warning.text}
    if warning.page is not None:
        entry["page"] = warning.page
    return entry
