"""Documents that LangChain's own Qdrant package stored, as pages with the vectors they already have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from langchain_core.documents import Document

from visrag_integrations.errors import StoreFormatError
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.types import Page

_BATCH = 128


def stored_documents(client: Any, collection: str, vector_name: str = "") -> Iterator[tuple[list[Page], list[Any]]]:
    """The pages of a collection with their dense vectors, batch by batch; ids and metadata stay what they are.

    Raises:
        StoreFormatError: A point has no vector of that name; the message lists those it has.
    """
    offset: Any = None
    while True:
        records, offset = client.scroll(collection, limit=_BATCH, offset=offset, with_payload=True, with_vectors=True)
        if records:
            yield (
                [_page(record) for record in records],
                [_vector(record, collection, vector_name) for record in records],
            )
        if offset is None:
            return


def _page(record: Any) -> Page:
    payload: Mapping[str, Any] = record.payload or {}
    text, metadata = payload.get("page_content"), payload.get("metadata")
    return document_to_page(Document(str(text or ""), id=str(record.id), metadata=dict(metadata or {})))


def _vector(record: Any, collection: str, name: str) -> Any:
    vectors = record.vector
    found = vectors.get(name) if isinstance(vectors, Mapping) else (vectors if not name else None)
    if found is None:
        names = sorted(vectors) if isinstance(vectors, Mapping) else [""]
        raise StoreFormatError(
            f"Point {record.id!r} of collection {collection!r} has no vector {name!r}; it has {names}. "
            "Say which with vector_name=."
        )
    return np.asarray(found, dtype=np.float32)
