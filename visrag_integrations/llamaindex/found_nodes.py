"""The nodes of pages that were found, made quickly: every search makes some.

`ImageNode(...)` checks each of its fields, and looks up the picture's type by the name of its file. A page of the core
gives fields of the right types already, so its node is a copy of one that LlamaIndex's own constructor made, with the
page's fields in the place of empty ones: nothing tells the two apart, and defaults are those of the LlamaIndex at hand.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo

from visrag_integrations.types import Page


def found_image_node(page: Page, metadata: dict[str, Any], picture: Mapping[str, str]) -> ImageNode:
    """The node of a page of the core.

    Args:
        page: The page.
        metadata: Its metadata as `convert.shown_metadata` makes them; the node keeps the dict itself.
        picture: The field of an `ImageNode` that names the picture; empty where there is none.

    Raises:
        ValidationError: A field of the page, or a key of its metadata, is not what its type says.
    """
    # A page's label says something about its content, and its file's name to a reader. They stand first.
    keys = list(metadata)
    fields = {
        "id_": page.given_id or page.id,
        "text": page.text,
        "metadata": metadata,
        "excluded_embed_metadata_keys": keys[1:],
        "excluded_llm_metadata_keys": keys[2:],
        "relationships": {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=page.doc_id)},
        **picture,
    }
    # Subclasses of `str`, or worse, are LlamaIndex's to judge.
    if {str} != {type(fields["id_"]), type(page.text), *map(type, keys)}:
        return ImageNode(**fields)
    suffix = ""
    if isinstance(page.picture, Path):
        suffix = page.picture.suffix
    node = _empty_node(tuple(picture), suffix).model_copy()
    vars(node).update(fields)
    return node


# Some suffixes of pictures are in use; the bound is for a store whose files are named by others.
@functools.lru_cache(maxsize=64)
def _empty_node(picture_fields: tuple[str, ...], suffix: str) -> ImageNode:
    """A node with the same fields given; its picture has the type that this suffix says."""
    picture = {}
    for name in picture_fields:
        picture[name] = f"page{suffix}"
    return ImageNode(
        id_="",
        text="",
        metadata={},
        excluded_embed_metadata_keys=[],
        excluded_llm_metadata_keys=[],
        relationships={},
        **picture,
    )
