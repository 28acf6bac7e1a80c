"""`with_picture_hashes`: nodes that differ where their pictures do, for caches that look at text and metadata alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from llama_index.core.schema import BaseNode

from visrag_integrations.images.urls import FetchUrls
from visrag_integrations.llamaindex.node_pictures import UrlRules, inline_base64, picture_of_node


def with_picture_hashes(
    nodes: Sequence[BaseNode], *, fetch_urls: FetchUrls = False, file_urls: bool = False
) -> list[BaseNode]:
    """New nodes whose metadata has the sha256 of their picture, so that a pipeline's cache tells them apart.

    LlamaIndex's cache goes by text and metadata alone. Documents of `VisRAGReader` have this already.
    """
    urls = UrlRules(fetch_urls, file_urls)
    return [_with_picture_hash(node, urls) for node in nodes]


def _with_picture_hash(node: BaseNode, urls: UrlRules) -> BaseNode:
    picture = picture_of_node(node, urls)
    if picture is None:
        return node
    digest = hashlib.sha256(base64.b64decode(inline_base64(picture))).hexdigest()
    return node.model_copy(
        update={
            "metadata": {**node.metadata, "image_sha256": digest},
            "excluded_embed_metadata_keys": [*node.excluded_embed_metadata_keys, "image_sha256"],
            "excluded_llm_metadata_keys": [*node.excluded_llm_metadata_keys, "image_sha256"],
        }
    )
