"""Documents, as the pages of a collection speak of them: their list, and the paths they were found at."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice

from visrag_integrations.errors import storable
from visrag_integrations.store.conditions import Condition, Empty, FieldMatch, both
from visrag_integrations.store.engine import Engine, PayloadChange, Record, batches
from visrag_integrations.store.payload import LISTING, source_fields, source_keys
from visrag_integrations.store.source_folders import FOLDERS, folder_keys
from visrag_integrations.types import StoredDocument

logger = logging.getLogger(__name__)

_DOC_ID = "metadata.doc_id"
# Their ids are held, some 150 bytes each. Where there are more, all pages are read.
_MOST_DOCUMENTS = 1_000_000
# Servers in strict mode may allow no more than 100 values in a condition.
_LISTED_TOGETHER = 64
# Pages that are read faster than their values are counted twice. In a folder that holds for 64 documents of 60 pages
# too (105 ms of processor, not 138; of five pages 11, not 52), but a server sends some 250 bytes for each page.
_READ_WHOLE = 1024
# Pages of an older version that get their folders together: it bounds the memory, whatever the collection holds.
_NOTED_TOGETHER = 4096


def of_document(doc_id: str) -> Condition:
    """The condition that pages of this document fulfil."""
    return FieldMatch(_DOC_ID, (storable(doc_id),))


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


def note_folders(engine: Engine) -> None:
    """Give pages that an older version stored the folders of their sources, by which they are found from then on."""
    lacking = Empty(FOLDERS)
    count = engine.count(lacking)
    if not count:
        return
    logger.warning(
        "%s: an older version stored %d of its pages without their folders. They are noted once now, so that from then "
        "on only pages of the given folders are looked at.",
        engine.where,
        count,
    )
    while records := list(islice(engine.scroll(lacking, LISTING), _NOTED_TOGETHER)):
        by_sources: dict[tuple[str, ...], list[str]] = {}
        for record in records:
            by_sources.setdefault(tuple(sources_of(record)), []).append(record.id)
        changes: list[PayloadChange] = []
        for sources, ids in by_sources.items():
            folders = {"folders": folder_keys(sources)}
            changes += [PayloadChange(batch, "visrag", folders) for batch in batches(ids)]
        engine.set_payloads(changes)


def documents_of(engine: Engine, condition: Condition | None) -> Iterator[StoredDocument]:
    """The documents of the pages that fit, some at a time, in no order; each is looked at when its turn comes.

    Few pages are read together. Of more, an engine that can count the values of a key tells which documents there are,
    and of each only the first page is read where that one speaks for all. Without it every page is.
    """
    pages = engine.scroll(condition, LISTING)
    first = list(islice(pages, _READ_WHOLE + 1))
    if len(first) <= _READ_WHOLE:
        yield from _grouped(first)
        return
    counts = engine.counted_by(_DOC_ID, condition, _MOST_DOCUMENTS)
    if counts is None:
        yield from _grouped(chain(first, pages))
        return
    for doc_ids in batches(sorted(counts), _LISTED_TOGETHER):
        yield from _some_documents(engine, condition, {doc_id: counts[doc_id] for doc_id in doc_ids})


def count_documents(engine: Engine, condition: Condition | None) -> int:
    """How many documents the pages that fit belong to."""
    counts = engine.counted_by(_DOC_ID, condition, _MOST_DOCUMENTS)
    if counts is not None:
        return len(counts)
    return len({record.payload["metadata"]["doc_id"] for record in engine.scroll(condition, (_DOC_ID,))})


def _some_documents(engine: Engine, condition: Condition | None, counts: Mapping[str, int]) -> list[StoredDocument]:
    """These documents, given how many pages of each fit."""
    of_these = both(condition, FieldMatch(_DOC_ID, tuple(counts)))
    if sum(counts.values()) > _READ_WHOLE:
        first_pages = both(of_these, FieldMatch("metadata.number", (1,)))
        found = _grouped(engine.scroll(first_pages, LISTING))
        if len(found) == len(counts) and _speak_for_all(found, counts, engine, of_these):
            return [replace(document, pages=counts[document.doc_id]) for document in found]
    return _grouped(engine.scroll(of_these, LISTING))


def _speak_for_all(
    found: Sequence[StoredDocument], counts: Mapping[str, int], engine: Engine, of_these: Condition | None
) -> bool:
    """Whether all pages lie at the sources of these first pages. They may not, where a run was killed.

    Two documents of 50 pages at a.pdf and b.pdf: 50 pages have the key "a.pdf", 50 "b.pdf", and there is no other.
    """
    expected: Counter[str] = Counter()
    for document in found:
        for key in source_keys(document.sources):
            expected[key] += counts[document.doc_id]
    return engine.counted_by("visrag.source_keys", of_these, len(expected)) == dict(expected)


def _grouped(records: Iterable[Record]) -> list[StoredDocument]:
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
