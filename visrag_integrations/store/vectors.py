"""Embeddings on their way into an engine: checked (shape, dimension, numbers), pooled, named, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import EmbedderError
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import POOLED_VECTOR, TEXT_VECTOR, Schema, SparseVector, Vector
from visrag_integrations.store.pooling import pool

if TYPE_CHECKING:
    from visrag_integrations.types import Page

MAX_FLOATS = 1_048_576
"""Numbers in one multi-vector: what a Qdrant server takes."""
_BATCH, _BATCH_FLOATS = 64, 2_000_000


def check_embeddings(
    pages: Sequence[Page], embeddings: Sequence[Any], schemas: Sequence[Schema]
) -> list[dict[str, Vector]]:
    """The float32 arrays of each page by their names; an empty embedding is left out.

    Raises:
        EmbedderError: Not one each, another shape or dimension, or not finite; the message names the page.
    """
    if len(pages) != len(embeddings):
        raise EmbedderError(
            f"{len(pages)} pages came with {len(embeddings)} embeddings; there must be one each, in order."
        )
    return [_check_page(page, embedding, schemas) for page, embedding in zip(pages, embeddings, strict=True)]


def _check_page(page: Page, embedding: Any, schemas: Sequence[Schema]) -> dict[str, Vector]:
    named: Mapping[str, Any] = embedding if isinstance(embedding, Mapping) else {schemas[0].vector_name: embedding}
    names = [schema.vector_name for schema in schemas]
    title = f"Page {page.number} of {page.source or page.doc_id!r}"
    if (len(schemas) > 1 and not isinstance(embedding, Mapping)) or named.keys() - set(names):
        example = ", ".join(f'"{name}": ...' for name in names)
        what = f"vectors named {', '.join(map(repr, named))}" if isinstance(embedding, Mapping) else "one embedding"
        raise EmbedderError(
            f"{title} comes with {what}; this collection holds {{{example}}}. Give it a dict like that."
        )
    checked = {s.vector_name: check_vector(named.get(s.vector_name, ()), s, lambda: title) for s in schemas}
    return {name: vector for name, vector in checked.items() if vector is not None}


def schema_for(vector: Any, schemas: Sequence[Schema]) -> Schema:
    """Whose vectors a query is compared with: where there are two kinds, its shape tells."""
    kind = "multi" if np.ndim(vector) == 2 else "single"
    return next((schema for schema in schemas if schema.kind == kind), schemas[0])


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


def named_vectors(
    vectors: Mapping[str, Vector], text: str, schemas: Sequence[Schema]
) -> dict[str, Vector | SparseVector]:
    """Everything a page is found by, under its name in the collection."""
    named: dict[str, Vector | SparseVector] = dict(vectors)
    for schema in schemas:
        vector = vectors.get(schema.vector_name)
        if vector is None:
            continue
        if schema.pooling:
            named[POOLED_VECTOR] = pool(vector, schema.pooled, schema.pooling)
        if schema.kept:
            named[schema.vector_name] = pool(vector, schema.kept, "hierarchical")
    words = text_vector(text)
    if words is not None:
        named[TEXT_VECTOR] = words
    return named


def in_batches(vectors: Sequence[Mapping[str, Vector]]) -> Iterator[tuple[int, int]]:
    """Starts and ends of batches that an engine takes at once: so many pages, and not too many numbers.

    >>> list(in_batches([{}] * 70))
    [(0, 64), (64, 70)]
    """
    start = floats = 0
    for place, named in enumerate(vectors):
        size = sum(vector.size for vector in named.values())
        if place > start and (place - start == _BATCH or floats + size > _BATCH_FLOATS):
            yield start, place
            start, floats = place, 0
        floats += size
    if start < len(vectors):
        yield start, len(vectors)
