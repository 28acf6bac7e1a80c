"""What an engine holds of pages, without the pages: their vectors, and which of them are equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from visrag_integrations.store.conditions import FieldMatch
from visrag_integrations.store.documents import of_document
from visrag_integrations.store.engine import Engine, Record, Vector, batches
from visrag_integrations.store.parts import CollectionParts
from visrag_integrations.store.payload import content_key
from visrag_integrations.types import Page

# A collection may hold thousands of blank pages, all equal. After so many the search for equals ends: what is not found
# by then is embedded again, which costs time but no result.
_MAX_EQUALS = 1024


_MARK = "visrag.mark"


def stored_vectors(parts: CollectionParts, ids: Sequence[str], names: Sequence[str]) -> dict[str, Mapping[str, Vector]]:
    """The vectors of these names, by id and name; a page may lack some, and those of another embedder are none."""
    fields = (_MARK,) if parts.mark else ()
    found: dict[str, Mapping[str, Vector]] = {}
    for batch in batches(ids):
        for record in parts.engine.retrieve(batch, fields, names):
            if not _is_foreign(record, parts):
                found[record.id] = record.vectors
    return found


def _is_foreign(record: Record, parts: CollectionParts) -> bool:
    """Whether a page says that its vectors were made for another description of the collection."""
    mark = (record.payload.get("visrag") or {}).get("mark")
    return bool(parts.mark and mark) and mark != parts.mark


def equal_embeddings(parts: CollectionParts, pages: Sequence[Page]) -> dict[str, Any]:
    """Embeddings as `add_pages` takes them, by `content_key`, where a page with the same picture and text is stored."""
    keys = {content_key(page) for page in pages} - {""}
    equals = ids_by_content(parts, keys)
    names = parts.vector_names
    vectors = stored_vectors(parts, list(equals.values()), names)
    embeddings: dict[str, Any] = {}
    for key, id_ in equals.items():
        named = vectors.get(id_, {})
        if any(name not in named for name in names):
            continue  # it was stored without an embedding, or is gone since
        if len(names) == 1:
            embeddings[key] = named[names[0]]
        else:
            embeddings[key] = {name: named[name] for name in names}
    return embeddings


def content_keys(engine: Engine, doc_id: str | None) -> list[str]:
    """The `content_key` of each page of a document, or of all, that has one."""
    condition = None if doc_id is None else of_document(doc_id)
    records = engine.scroll(condition, ("visrag.content",))
    owned = [record.payload.get("visrag") or {} for record in records]
    return [own["content"] for own in owned if "content" in own]


def ids_by_content(parts: CollectionParts, keys: set[str]) -> dict[str, str]:
    """By content key: the id of one stored page with it."""
    found: dict[str, str] = {}
    if not keys:
        return found
    condition = FieldMatch("visrag.content", tuple(keys))
    records: Iterator[Record] = parts.engine.scroll(condition, ("visrag.content", _MARK))
    for record in islice(records, _MAX_EQUALS):
        if _is_foreign(record, parts):
            continue
        found.setdefault(record.payload["visrag"]["content"], record.id)
        if len(found) == len(keys):
            break
    return found
