"""Documents, as the pages of a collection speak of them: their list, and the paths they were found at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from visrag_integrations.errors import storable
from visrag_integrations.store.conditions import Condition, FieldMatch
from visrag_integrations.store.engine import Engine, PayloadChange, Record, batches
from visrag_integrations.store.payload import source_fields
from visrag_integrations.types import StoredDocument


def of_document(doc_id: str) -> Condition:
    """The condition that pages of this document fulfil."""
    return FieldMatch("metadata.doc_id", (storable(doc_id),))


def sources_of(record: Record) -> list[str]:
    """Where a stored page was found."""
    return list(record.payload["metadata"].get("sources") or ())


def set_sources(engine: Engine, wanted: Mapping[Record, Sequence[str]]) -> None:
    """Make these the sources of the pages, with one change for each different list."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for record, sources in wanted.items():
        merged = tuple(dict.fromkeys(sources))
        if list(merged) != sources_of(record):
            groups.setdefault(merged, []).append(record.id)
    changes: list[PayloadChange] = []
    for merged, ids in groups.items():
        metadata, own = source_fields(merged)
        for batch in batches(ids):
            # The keys that filters use come first: after a kill between the two, a page is still found by its source.
            changes.append(PayloadChange(batch, "visrag", own))
            changes.append(PayloadChange(batch, "metadata", metadata))
    if changes:
        engine.set_payloads(changes)


def list_documents(records: Iterable[Record]) -> list[StoredDocument]:
    """The documents that these pages belong to, in the order of their sources."""
    pages: Counter[str] = Counter()
    totals: dict[str, int | None] = {}
    sources: dict[str, dict[str, None]] = {}
    for record in records:
        metadata = record.payload["metadata"]
        doc_id = metadata["doc_id"]
        pages[doc_id] += 1
        totals.setdefault(doc_id, metadata.get("total_pages"))
        sources.setdefault(doc_id, {}).update(dict.fromkeys(metadata.get("sources") or ()))
    found = [StoredDocument(doc_id, tuple(sources[doc_id]), pages[doc_id], totals[doc_id]) for doc_id in pages]
    return sorted(found, key=lambda document: (document.sources, document.doc_id))
