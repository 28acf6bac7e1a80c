"""What an engine holds of pages, without the pages: their vectors, and which of them are equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from visrag_integrations.store.documents import of_document
from visrag_integrations.store.engine import Engine, Schema, Vector, batches
from visrag_integrations.store.filters import Match
from visrag_integrations.store.payload import content_key
from visrag_integrations.types import Page

_EQUALS = 1024


def stored_vectors(engine: Engine, ids: Sequence[str], names: Sequence[str]) -> dict[str, Mapping[str, Vector]]:
    """The vectors of these names, by id and name; a page may lack some."""
    return {record.id: record.vectors for batch in batches(ids) for record in engine.retrieve(batch, (), names)}


def equal_embeddings(engine: Engine, schemas: Sequence[Schema], pages: Sequence[Page]) -> dict[str, Any]:
    """Embeddings as `add_pages` takes them, by `content_key`, where a page with the same picture and text is stored."""
    keys = {content_key(page) for page in pages} - {""}
    equals: dict[str, str] = {}
    for record in islice(_with_contents(engine, keys), _EQUALS) if keys else ():  # blank pages are many
        equals.setdefault(record.payload["visrag"]["content"], record.id)
        if len(equals) == len(keys):
            break
    names = [schema.vector_name for schema in schemas]
    found = stored_vectors(engine, list(equals.values()), names)
    whole = {key: found[id_] for key, id_ in equals.items() if id_ in found and found[id_].keys() >= set(names)}
    if len(names) == 1:
        return {key: named[names[0]] for key, named in whole.items()}
    return {key: {name: named[name] for name in names} for key, named in whole.items()}


def content_keys(engine: Engine, doc_id: str | None) -> list[str]:
    """The `content_key` of each page of a document, or of all, that has one."""
    records = engine.scroll(None if doc_id is None else of_document(doc_id), ("visrag.content",))
    return [record.payload["visrag"]["content"] for record in records if record.payload.get("visrag")]


def _with_contents(engine: Engine, keys: set[str]) -> Any:
    return engine.scroll(Match("visrag.content", tuple(keys)), ("visrag.content",))
