"""Collections that LangChain's own Qdrant package filled, read with their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from langchain_core.documents import Document

from visrag_integrations.errors import StoreFormatError
from visrag_integrations.langchain.convert import document_to_page
from visrag_integrations.types import Page

RECORDS_AT_ONCE = 128
"""Points that are read at once: each comes with its text and its vector."""


def read_qdrant_collection(
    client: Any, collection_name: str, vector_name: str = ""
) -> Iterator[tuple[list[Page], list[Any]]]:
    """The Documents that langchain-qdrant keeps in a collection, as pages with their vectors, batch by batch.

    Ids and metadata stay what they are.

    Raises:
        StoreFormatError: A point has no vector of that name; the message lists those it has.
    """
    offset: Any = None
    while True:
        records, offset = client.scroll(
            collection_name, limit=RECORDS_AT_ONCE, offset=offset, with_payload=True, with_vectors=True
        )
        if records:
            pages = list(map(_record_to_page, records))
            yield pages, [_record_vector(record, collection_name, vector_name) for record in records]
        if offset is None:
            return


def _record_to_page(record: Any) -> Page:
    payload: Mapping[str, Any] = record.payload or {}
    # langchain-qdrant's default keys: {"page_content": "...", "metadata": {...}}
    text, metadata = payload.get("page_content"), payload.get("metadata")
    return document_to_page(Document(str(text or ""), id=str(record.id), metadata=dict(metadata or {})))


def _record_vector(record: Any, collection_name: str, vector_name: str) -> Any:
    # A collection has either several vectors by name, or one without a name.
    vectors = record.vector if isinstance(record.vector, Mapping) else {"": record.vector}
    vector = vectors.get(vector_name)
    if vector is None:
        raise StoreFormatError(
            f"Point {record.id!r} of collection {collection_name!r} has no vector {vector_name!r}; it has "
            f"{sorted(vectors)}. Say which with vector_name=."
        )
    return np.asarray(vector, dtype=np.float32)
