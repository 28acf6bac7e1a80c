"""Pages into an engine and out of it, and their pictures with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visrag_integrations.store.documents import set_sources, sources_of
from visrag_integrations.store.engine import Engine, Point, Record, Schema, Vector, batches
from visrag_integrations.store.filters import Condition, Match, storable
from visrag_integrations.store.payload import LISTING, page_to_payload
from visrag_integrations.store.pictures import PagePictures
from visrag_integrations.store.vectors import named_vectors
from visrag_integrations.types import Page

_KNOWN = ("metadata.sources", "metadata.image")


def write_pages(
    engine: Engine,
    pictures: PagePictures,
    pages: Sequence[Page],
    vectors: Sequence[Mapping[str, Vector]],
    schemas: Sequence[Schema],
) -> None:
    """Add or overwrite pages; a page that was found elsewhere before keeps those sources."""
    ids = [page.id for page in pages]
    known = {r.id: r.payload.get("metadata") or {} for r in engine.retrieve(list(dict.fromkeys(ids)), _KNOWN)}
    points: dict[str, Point] = {}
    replaced: set[str] = set()
    for id_, page, named in zip(ids, pages, vectors, strict=True):
        before = known.get(id_, {})
        image = pictures.save(page.picture)
        payload = page_to_payload(page, sources=before.get("sources") or (), image=image)
        if before.get("image") not in (None, image):
            replaced.add(before["image"])
        known[id_] = payload["metadata"]
        points[id_] = Point(id_, named_vectors(named, page.text, schemas), payload)
    engine.upsert(list(points.values()))
    _forget_pictures(engine, pictures, replaced)


def remove_pages(engine: Engine, pictures: PagePictures, condition: Condition | None, source: str | None) -> int:
    """Remove the pages that fit; returns how many. Of a source, pages that were found elsewhere too only lose it."""
    records = list(engine.scroll(condition, (*LISTING, "metadata.image")))
    left: dict[Record, list[str]] = {record: [] for record in records}
    if source is not None:  # exactly this one; the condition takes a file name too
        held = [record for record in records if storable(source) in sources_of(record)]
        left = {record: [s for s in sources_of(record) if s != storable(source)] for record in held}
    set_sources(engine, {record: sources for record, sources in left.items() if sources})
    gone = [record for record, sources in left.items() if not sources]
    for batch in batches([record.id for record in gone]):
        engine.delete(batch)
    _forget_pictures(engine, pictures, {record.payload["metadata"].get("image") for record in gone})
    return len(gone)


def _forget_pictures(engine: Engine, pictures: PagePictures, references: set[Any]) -> None:
    """Delete those of the pictures that no page speaks of any more."""
    for batch in batches(references - {None}):
        records = engine.scroll(Match("metadata.image", tuple(batch)), ("metadata.image",))
        pictures.delete(set(batch) - {record.payload["metadata"]["image"] for record in records})
