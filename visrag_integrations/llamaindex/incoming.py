"""Nodes on their way into a store: one page per picture, with the vector where the node brings the right one."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.schema import BaseNode

from visrag_integrations.llamaindex.convert import PICTURE_VECTOR_OF, node_to_page
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, PageEmbedder


@dataclass(frozen=True)
class Incoming:
    """A page and its vector; None where it has to be embedded."""

    page: Page
    vector: Embedding | None


def incoming_pages(nodes: Sequence[BaseNode], embedder: PageEmbedder, *, fetch_urls: bool = False) -> list[Incoming]:
    """The nodes as pages; of nodes with one id the last, and nodes of one document with one picture are one page."""
    pieces: dict[Hashable, dict[str, Incoming]] = {}
    for node in nodes:
        page = node_to_page(node, fetch_urls=fetch_urls)
        pieces.setdefault(_same_page(node, page), {})[node.node_id] = Incoming(page, _vector_of(node, page, embedder))
    return [_whole(list(of_page.values())) for of_page in pieces.values()]


def _whole(pieces: Sequence[Incoming]) -> Incoming:
    """One page of its pieces, under the id of the first, with their texts in order."""
    first = pieces[0]
    text = "\n".join(piece.page.text for piece in pieces)
    return first if len(pieces) == 1 else Incoming(dataclasses.replace(first.page, text=text), first.vector)


def _same_page(node: BaseNode, page: Page) -> Hashable:
    """The same for two pieces of one page, and for a node that is given twice."""
    picture: Any = page.picture
    if picture is None or node.source_node is None or callable(picture):
        return node.node_id
    return (node.ref_doc_id, picture)


def _vector_of(node: BaseNode, page: Page, embedder: PageEmbedder) -> Embedding | None:
    """The node's own embedding where it is what `embedder` would make of the page."""
    if node.embedding is None or embedder.kind != "single" or len(node.embedding) != embedder.dimension:
        return None
    if page.picture is not None and node.metadata.get(PICTURE_VECTOR_OF) != embedder.name:
        return None  # LlamaIndex embeds the text of nodes with a picture
    return np.asarray(node.embedding, np.float32)
