"""Pages into an engine and out of it, and their pictures with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from visrag_integrations.errors import storable
from visrag_integrations.store.conditions import Condition, FieldMatch
from visrag_integrations.store.documents import set_sources, sources_of
from visrag_integrations.store.engine import Point, Record, Vector, batches
from visrag_integrations.store.indexed import with_whole_numbers
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.payload import LISTING, page_to_payload
from visrag_integrations.store.vectors import named_vectors
from visrag_integrations.types import Page

_KEPT_FIELDS = ("metadata.sources", "metadata.image")
"""What is read of a page before it is overwritten."""
# Pictures that are looked for in one request: it bounds the request and its answer.
_LOOKED_UP_AT_ONCE = 256


def write_pages(parts: CollectionParts, pages: Sequence[Page], vectors: Sequence[Mapping[str, Vector]]) -> None:
    """Add or overwrite pages; a page that was found elsewhere before keeps those sources."""
    ids = [page.id for page in pages]
    stored: dict[str, Mapping[str, Any]] = {}
    for record in parts.engine.retrieve(list(dict.fromkeys(ids)), _KEPT_FIELDS):
        stored[record.id] = record.payload.get("metadata") or {}
    points: dict[str, Point] = {}
    replaced: set[str] = set()
    images = parts.pictures.save_all(pages)  # before the pages: a kill leaves no page without its picture
    for id_, page, named, image in zip(ids, pages, vectors, images, strict=True):
        before = stored.get(id_, {})
        payload = page_to_payload(page, sources=before.get("sources") or (), image=image)
        payload["metadata"] = with_whole_numbers(payload["metadata"], parts.integers)
        if parts.mark:
            payload["visrag"]["mark"] = parts.mark
        if before.get("image") not in (None, image):
            replaced.add(before["image"])
        stored[id_] = payload["metadata"]  # the same page may come twice in one call: the later one adds its source
        points[id_] = Point(id_, named_vectors(named, page.text, parts.schemas), payload)
    parts.pictures.note(replaced)
    parts.engine.upsert(list(points.values()))
    parts.pictures.shown(images)
    delete_unused_pictures(parts, replaced)


def remove_pages(parts: CollectionParts, condition: Condition | None, source: str | None) -> int:
    """Remove the pages that fit; returns how many. Of a source, pages that were found elsewhere too only lose it."""
    gone: list[Record] = []
    kept_sources: dict[Record, list[str]] = {}
    for record in parts.engine.scroll(condition, (*LISTING, "metadata.image")):
        remaining: list[str] = []
        if source is not None:
            sources = sources_of(record)
            if storable(source) not in sources:
                continue  # the condition takes a file name too; only exactly this source is meant
            remaining = [other for other in sources if other != storable(source)]
        if remaining:
            kept_sources[record] = remaining
        else:
            gone.append(record)
    set_sources(parts.engine, kept_sources)
    images = {record.payload["metadata"].get("image") for record in gone} - {None}
    parts.pictures.note(images)
    for batch in batches([record.id for record in gone]):
        parts.engine.delete(batch)
    delete_unused_pictures(parts, images)
    return len(gone)


def delete_unused_pictures(parts: CollectionParts, references: set[str]) -> None:
    """Delete those of the pictures, and of those that were due before, that no page refers to any more."""
    if not parts.pictures.deletes:
        return
    due = parts.pictures.due()
    for batch in batches(references | due):
        used = _used(parts, batch)
        parts.pictures.delete(set(batch) - used)
        parts.pictures.shown(used)
        if used & due:
            parts.pictures.keep(used & due)


def shown_only_by(parts: CollectionParts, others: CollectionParts) -> set[str]:
    """The pictures that pages of the one collection show, and none of the other."""
    gone: set[str] = set()
    batch: set[str] = set()
    for record in parts.engine.scroll(None, ("metadata.image",)):
        batch.add(record.payload.get("metadata", {}).get("image") or "")
        if len(batch) == _LOOKED_UP_AT_ONCE:
            gone |= batch - _used(others, batch)
            batch = set()
    gone |= batch - _used(others, batch)
    return gone - {""}


def _used(parts: CollectionParts, references: Iterable[str]) -> set[str]:
    """Those of the pictures that some page shows."""
    # Tenants may show one picture: it goes with the last page of anybody.
    everyones = parts.everyones or parts.engine
    records = everyones.scroll(FieldMatch("metadata.image", tuple(references)), ("metadata.image",))
    return {record.payload["metadata"]["image"] for record in records}
