"""Embeddings on their way into an engine: checked (shape, dimension, numbers), pooled, named, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations import lexical
from visrag_integrations.errors import EmbedderError
from visrag_integrations.store.engine import POOLED_VECTOR, TEXT_VECTOR, Schema, SparseVector, Vector
from visrag_integrations.store.pooling import pool

if TYPE_CHECKING:
    from visrag_integrations.types import Page

MAX_FLOATS = 1_048_576
"""Numbers in one multi-vector: what a Qdrant server takes."""
_BATCH, _BATCH_FLOATS = 64, 2_000_000


def check_embeddings(pages: Sequence[Page], embeddings: Sequence[Any], schema: Schema) -> list[Vector | None]:
    """One float32 array per page; None for a page whose embedding is empty.

    Raises:
        EmbedderError: Not one each, another shape or dimension, or not finite; the message names the page.
    """
    if len(pages) != len(embeddings):
        raise EmbedderError(
            f"{len(pages)} pages came with {len(embeddings)} embeddings; there must be one each, in order."
        )
    return [
        check_vector(embedding, schema, lambda page=page: f"Page {page.number} of {page.source or page.doc_id!r}")
        for page, embedding in zip(pages, embeddings, strict=True)
    ]


def check_vector(embedding: Any, schema: Schema, name: Any) -> Vector | None:
    """The embedding as a contiguous float32 array of the collection's shape; None when it is empty.

    Args:
        embedding: `(dim,)` or `(n, dim)`.
        schema: What the collection holds.
        name: Called for the name in an error message.
    """
    array = np.ascontiguousarray(embedding, dtype=np.float32)
    if schema.kind == "multi" and array.ndim == 1 and array.size:
        array = array[np.newaxis]
    elif schema.kind == "single" and array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.size == 0:
        return None
    wanted = 2 if schema.kind == "multi" else 1
    if array.ndim != wanted or array.shape[-1] != schema.dimension:
        shape = f"(n, {schema.dimension})" if wanted == 2 else f"({schema.dimension},)"
        raise EmbedderError(f"{name()} has an embedding of shape {array.shape}; this collection holds {shape}.")
    if not np.isfinite(array).all():
        raise EmbedderError(f"{name()} has an embedding with NaN or infinite numbers; embed it again in float32.")
    if array.size > MAX_FLOATS:
        raise EmbedderError(
            f"{name()} has an embedding of {array.shape[0]} x {array.shape[1]} numbers; a Qdrant multi-vector takes "
            f"{MAX_FLOATS}. Pool its vectors, or give the embedder fewer patches a page."
        )
    return array


def text_vector(text: str) -> SparseVector | None:
    """The lexical vector of a page's text; None when it has no words."""
    indices, values = lexical.document_vector(text) if text else ([], [])
    return SparseVector(indices, values) if indices else None


def named_vectors(vector: Vector | None, text: str, schema: Schema) -> dict[str, Vector | SparseVector]:
    """Everything a page is found by, under its name in the collection."""
    named: dict[str, Vector | SparseVector] = {}
    if vector is not None:
        named[schema.vector_name] = vector
        if schema.pooling:
            named[POOLED_VECTOR] = pool(vector, schema.pooled, schema.pooling)
    words = text_vector(text)
    if words is not None:
        named[TEXT_VECTOR] = words
    return named


def in_batches(vectors: Sequence[Vector | None]) -> Iterator[tuple[int, int]]:
    """Starts and ends of batches that an engine takes at once: so many pages, and not too many numbers.

    >>> list(in_batches([None] * 70))
    [(0, 64), (64, 70)]
    """
    start = floats = 0
    for place, vector in enumerate(vectors):
        size = 0 if vector is None else vector.size
        if place > start and (place - start == _BATCH or floats + size > _BATCH_FLOATS):
            yield start, place
            start, floats = place, 0
        floats += size
    if start < len(vectors):
        yield start, len(vectors)
