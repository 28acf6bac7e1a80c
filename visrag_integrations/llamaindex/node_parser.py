"""`PageNodeParser`: one node per page; LlamaIndex's splitters would cut a page's text and repeat its picture."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from llama_index.core.node_parser import NodeParser
from llama_index.core.node_parser.node_utils import build_nodes_from_splits
from llama_index.core.schema import BaseNode
from llama_index.core.utils import get_tqdm_iterable

from visrag_integrations.llamaindex.convert import content_of

# Of the ids of nodes: a changed value would give every stored node another id.
_NAMESPACE = uuid.UUID("a3f0c0de-70e5-5f0a-9d53-5c1f7f1f6d11")


class PageNodeParser(NodeParser):
    """Every document becomes one node, with its picture and its whole text; the same document always the same node id.

    >>> from llama_index.core import Document
    >>> [node.text for node in PageNodeParser().get_nodes_from_documents([Document(text="A page. " * 2)])]
    ['A page. A page. ']
    """

    @classmethod
    def class_name(cls) -> str:
        return "PageNodeParser"

    def _parse_nodes(self, nodes: Sequence[BaseNode], show_progress: bool = False, **kwargs: Any) -> list[BaseNode]:
        found: list[BaseNode] = []
        for node in get_tqdm_iterable(nodes, show_progress, "Parsing nodes"):
            found += build_nodes_from_splits([content_of(node)], node, id_func=_node_id)  # type: ignore[arg-type]
        return found


def _node_id(place: int, document: BaseNode) -> str:
    return str(uuid.uuid5(_NAMESPACE, document.node_id))
