"""What a store holds of the sources that come next, asked for many in one request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from visrag_integrations.errors import storable
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.types import StoredDocument

Given = TypeVar("Given", bound="Path | str | bytes")

# Sources asked for in one request. Servers in strict mode may allow no more than 100 values in a condition.
_AT_ONCE = 64
# An iterator that gives a document now and then is not waited for: what it gave so far goes on.
_GATHERED_S = 0.2


class SourceLookahead:
    """Knows what was stored at each of the coming sources when it was asked; each answer is given once.

    The reading thread iterates `over`, the writing thread takes the answers.

    Args:
        store: Of the run.
    """

    def __init__(self, store: QdrantPageStore) -> None:
        self._store = store
        self._at_source: dict[str, list[StoredDocument]] = {}
        self._whole: dict[str, int] = {}

    def over(self, sources: Iterable[Given]) -> Iterator[Given]:
        """The sources, and the store is asked for those that come next."""
        group: list[Given] = []
        started = time.monotonic()
        for source in sources:
            group.append(source)
            if len(group) < _AT_ONCE and time.monotonic() - started < _GATHERED_S:
                continue
            self._ask(group)
            yield from group
            group, started = [], time.monotonic()
        self._ask(group)
        yield from group

    def pages_of_whole(self, doc_id: str) -> int | None:
        """How many pages a document has of which all are stored; None where that is not known."""
        return self._whole.get(doc_id)

    def take_at(self, source: str) -> list[StoredDocument] | None:
        """The documents that were found at this source, with their pages there; None where that is not known."""
        return self._at_source.pop(storable(source), None)

    def _ask(self, group: Sequence[Path | str | bytes]) -> None:
        # As the store writes them: a name whose bytes are no UTF-8 would never be among the sources of a document.
        names = {storable(os.fspath(source)) for source in group if not isinstance(source, bytes)}
        if not names:
            return
        found: dict[str, list[StoredDocument]] = {name: [] for name in names}
        unclear: set[str] = set()
        for document in self._store.documents(filter={"source": sorted(names)}):
            here = names.intersection(document.sources)
            if len(here) > 1:
                # Its pages are counted together, and some may be found at one of these sources only.
                unclear |= here
            for name in here:
                found[name].append(document)
            if document.total_pages is not None and document.pages >= document.total_pages:
                self._whole[document.doc_id] = document.pages
        for name in unclear:
            del found[name]
        self._at_source.update(found)
