"""Embeddings on their way into an engine: checked (shape, dimension, numbers), pooled, named, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visrag_integrations.errors import EmbedderError
from visrag_integrations.scores import lexical
from visrag_integrations.store.engine import MAX_NUMBERS, POOLED_VECTOR, TEXT_VECTOR, Schema, SparseVector, Vector
from visrag_integrations.store.pooling import pool

if TYPE_CHECKING:
    from visrag_integrations.types import Page

# Pages the engine takes at once, and their numbers: 8 MB of float32, so that a batch of multi-vectors stays small.
_BATCH, _BATCH_FLOATS = 64, 2_000_000


def check_embeddings(
    pages: Sequence[Page], embeddings: Sequence[Any], schemas: Sequence[Schema], max_numbers: int = MAX_NUMBERS
) -> list[dict[str, Vector]]:
    """The float32 arrays of each page by their names; an empty embedding is left out.

    Raises:
        EmbedderError: Not one each, another shape or dimension, or not finite; the message names the page.
    """
    if len(pages) != len(embeddings):
        raise EmbedderError(
            f"{len(pages)} pages came with {len(embeddings)} embeddings; there must be one each, in order."
        )
    checked: list[dict[str, Vector]] = []
    for page, embedding in zip(pages, embeddings, strict=True):
        checked.append(_check_page(page, embedding, schemas, max_numbers))
    return checked


def _check_page(page: Page, embedding: Any, schemas: Sequence[Schema], max_numbers: int) -> dict[str, Vector]:
    title = f"Page {page.number} of {page.source or page.doc_id!r}"
    checked: dict[str, Vector] = {}
    named = _by_name(embedding, schemas, title)
    for schema in schemas:
        vector = check_vector(named.get(schema.vector_name, ()), schema, title)
        if vector is None:
            continue
        if vector.size > max_numbers:
            raise EmbedderError(
                f"{title} has an embedding of {' x '.join(map(str, vector.shape))} numbers; the collection takes "
                f"{max_numbers} a page. Pool its vectors, or give the embedder fewer patches a page."
            )
        checked[schema.vector_name] = vector
    return checked


def _by_name(embedding: Any, schemas: Sequence[Schema], title: str) -> Mapping[str, Any]:
    """A page's embeddings by their names in the collection; `title` names the page in an error message."""
    names = [schema.vector_name for schema in schemas]
    if isinstance(embedding, Mapping):
        if embedding.keys() <= set(names):
            return embedding
        what = f"vectors named {', '.join(map(repr, embedding))}"
    elif len(names) == 1:
        return {names[0]: embedding}
    else:
        what = "one embedding"
    example = ", ".join(f'"{name}": ...' for name in names)
    raise EmbedderError(f"{title} comes with {what}; this collection holds {{{example}}}. Give it a dict like that.")


def schema_for(vector: Any, schemas: Sequence[Schema]) -> Schema:
    """Whose vectors a query is compared with: where there are two kinds, its shape tells."""
    kind = "multi" if np.ndim(vector) == 2 else "single"
    for schema in schemas:
        if schema.kind == kind:
            return schema
    return schemas[0]


def check_vector(embedding: Any, schema: Schema, title: str) -> Vector | None:
    """The embedding as a contiguous float32 array of the collection's shape; None when it is empty.

    Args:
        embedding: `(dim,)` or `(n, dim)`.
        schema: What the collection holds.
        title: Whose it is, for an error message.
    """
    array = np.ascontiguousarray(embedding, dtype=np.float32)
    if array.size == 0:
        return None
    if schema.kind == "multi":
        wanted = f"(n, {schema.dimension})"
        if array.ndim == 1:
            array = array[np.newaxis]  # one vector is a page of one: (dim,) -> (1, dim)
        fits = array.ndim == 2
    else:
        wanted = f"({schema.dimension},)"
        if array.ndim == 2 and len(array) == 1:
            array = array[0]  # (1, dim) -> (dim,)
        fits = array.ndim == 1
    if not fits or array.shape[-1] != schema.dimension:
        raise EmbedderError(f"{title} has an embedding of shape {array.shape}; this collection holds {wanted}.")
    if not np.isfinite(array).all():
        raise EmbedderError(f"{title} has an embedding with NaN or infinite numbers; embed it again in float32.")
    return array


def text_vector(text: str) -> SparseVector | None:
    """The lexical vector of a page's text; None when it has no words."""
    if not text:
        return None
    indices, values = lexical.document_vector(text)
    if not indices:
        return None
    return SparseVector(indices, values)


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
    """Starts and ends of batches that an engine takes at once: limited in pages, and in numbers.

    >>> list(in_batches([{}] * 70))
    [(0, 64), (64, 70)]
    """
    start = floats = 0
    for place, named in enumerate(vectors):
        size = sum(vector.size for vector in named.values())
        full = place - start == _BATCH or floats + size > _BATCH_FLOATS
        if full and place > start:  # a page of more numbers than that is a batch of its own
            yield start, place
            start, floats = place, 0
        floats += size
    if start < len(vectors):
        yield start, len(vectors)
