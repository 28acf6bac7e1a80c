"""Nodes on their way into a page store: their pages, and the vectors that they bring or that are made of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.schema import BaseNode, NodeWithScore

from visrag_integrations.interfaces.embedders import embed_mixed, reads_pictures_alone
from visrag_integrations.llamaindex.convert import KEPT, PICTURE_VECTOR_OF, node_to_hit, node_to_page
from visrag_integrations.llamaindex.node_pictures import NO_URLS, UrlRules
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder

_BATCH = 32
"""So many nodes are embedded and stored at once: what a failure loses, and how many pictures are open together."""


@dataclass(frozen=True)
class NodePage:
    """A node on its way into the store: its page, and its vector; None where the page has to be embedded."""

    page: Page
    vector: Embedding | None


def pages_of_nodes(
    nodes: Sequence[BaseNode], embedder: PageEmbedder, urls: UrlRules = NO_URLS, tenant: str = ""
) -> list[NodePage]:
    """The nodes as pages, each its own; of nodes with one id the last."""
    pages: dict[str, NodePage] = {}
    for node in nodes:
        page = node_to_page(node, urls, tenant)
        pages[node.node_id] = NodePage(page, _given_vector(node, page, embedder))
    return list(pages.values())


def embedded_batches(pages: Sequence[NodePage], embedder: PageEmbedder) -> Iterable[tuple[list[Page], list[Embedding]]]:
    """The pages with their vectors, in batches; a picture that several nodes show is embedded once."""
    known: dict[Hashable, Embedding] = {}
    for start in range(0, len(pages), _BATCH):
        batch = pages[start : start + _BATCH]
        missing: dict[Hashable, Page] = {}
        for one in batch:
            key = picture_key(one.page, embedder)
            if one.vector is None and key not in known:
                missing.setdefault(key, one.page)
        known.update(zip(missing, embed_mixed(embedder, list(missing.values())), strict=True))
        vectors = []
        for one in batch:
            vectors.append(known[picture_key(one.page, embedder)] if one.vector is None else one.vector)
        yield [one.page for one in batch], vectors
        # Pieces of a page come one after the other: those of the last picture may go on in the next batch.
        last = picture_key(batch[-1].page, embedder)
        known = {last: known[last]} if last in known else {}


def shown_once(
    found: Sequence[NodeWithScore], urls: UrlRules = NO_URLS
) -> tuple[list[NodeWithScore], list[ScoredPage]]:
    """The nodes that are shown to a model, and their pages; pieces of one page are one page, with all their texts.

    page 1 (first half), page 2, page 1 (second half)  ->  page 1 (both halves), page 2
    """
    places: dict[Hashable, int] = {}
    ids: set[str] = set()
    nodes: list[NodeWithScore] = []
    hits: list[ScoredPage] = []
    for node in found:
        hit = node_to_hit(node, urls)
        key = picture_key(hit.page)
        if hit.page.id in ids:
            continue  # the same node again: another retriever found it too
        ids.add(hit.page.id)
        if key in places:
            before = hits[places[key]]
            text = f"{before.page.text}\n{hit.page.text}".strip()
            hits[places[key]] = dataclasses.replace(before, page=dataclasses.replace(before.page, text=text))
        else:
            places[key] = len(hits)
            nodes.append(node)
            hits.append(hit)
    return nodes, hits


def picture_key(page: Page, embedder: PageEmbedder | None = None) -> Hashable:
    """The same for two pieces of one page: nodes of one document with the same picture.

    Args:
        page: Of a node.
        embedder: Where it is given, the same only if its vectors are too: one that reads texts makes others.
    """
    picture: Any = page.picture
    if isinstance(picture, functools.partial):
        picture = picture.args  # one that is still to be read: by its URL, or the store's name of it
    if picture is None or not isinstance(picture, (bytes, Path, tuple)):
        return page.id  # pixels in memory cannot be compared
    if embedder is not None and not reads_pictures_alone(embedder):
        return page.id  # the text of a piece may be in its vector
    kept = page.metadata.get(KEPT) or {}
    return (kept.get("ref_doc_id", page.id), picture)


def _given_vector(node: BaseNode, page: Page, embedder: PageEmbedder) -> Embedding | None:
    """The node's own embedding where it is what `embedder` would make of the page."""
    if node.embedding is None or embedder.kind != "single" or len(node.embedding) != embedder.dimension:
        return None
    if page.picture is not None and node.metadata.get(PICTURE_VECTOR_OF) != embedder.name:
        return None  # LlamaIndex embeds the text of nodes with a picture
    return np.asarray(node.embedding, np.float32)
