"""Pages as LlamaIndex documents and nodes, and back. The only place that knows LlamaIndex's metadata keys.

A page from a reader has the keys LlamaIndex's own readers use (`page_label`, `file_name`, `file_path`) plus `number`
from 1, `doc_id` and `image_sha256`. A node that goes into a store comes back with its id, metadata and relationships;
what a payload has no place for is kept under the metadata key `_node`.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)

from visrag_integrations.grounding import remember_words
from visrag_integrations.llamaindex.node_pictures import inline_base64, picture_of_node
from visrag_integrations.types import Page, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

KEPT = "_node"
"""Metadata key of what a payload has no place for."""
PICTURE_VECTOR_OF = "_picture_vector_of"
"""Metadata key that says whose vector of the node's picture its `embedding` is."""
# A page's label says something about its content, and its file's name to a reader; ids and hashes say nothing.
NOT_EMBEDDED = ("doc_id", "number", "image_sha256", "file_path", "file_name")
NOT_FOR_LLMS = ("doc_id", "number", "image_sha256", "file_path")
# A node of another class comes back as one of these: what was stored must not name a class to be made.
_TYPES: dict[str, type[TextNode]] = {"TextNode": TextNode, "ImageNode": ImageNode, "IndexNode": IndexNode}
_PICTURE_FIELDS = {"image", "image_path", "image_url", "image_mimetype"}
# Fields that a page has a place for, or that are made anew.
_ELSEWHERE = {"id_", "embedding", "metadata", "text", "text_resource", "image_resource", "image", "obj", "class_name"}


def page_to_document(
    page: Page, image_path: str, image_sha256: str, extra: Mapping[str, Any] | None = None
) -> Document:
    """The page as an `ImageDocument`, whose id stays the same while the document's content changes.

    Args:
        page: A page whose `doc_id` is the path or name of its document.
        image_path: Where its picture is, as a file.
        image_sha256: Of that file; caches and document stores tell pages apart by it.
        extra: More metadata.
    """
    # The user's own keys come last: they may replace ours.
    own = {
        "page_label": str(page.metadata.get("page_label") or page.number),
        "file_name": file_name(page.source),
        "file_path": page.source,
        "doc_id": page.doc_id,
        "number": page.number,
        "image_sha256": image_sha256,
    }
    return ImageDocument(
        id_=document_id(page.doc_id, page.number),
        text_resource=MediaResource(text=page.text),
        image_resource=MediaResource(path=Path(image_path)),
        metadata={**own, **(extra or {})},
        excluded_embed_metadata_keys=list(NOT_EMBEDDED),
        excluded_llm_metadata_keys=list(NOT_FOR_LLMS),
    )


def document_id(doc_id: str, number: int) -> str:
    """The id of a page's document.

    >>> document_id("reports/a.pdf", 3)
    'reports/a.pdf#page=3'
    """
    return f"{doc_id}#page={number}"


def file_name(source: str) -> str:
    """The last part of a path or URI.

    >>> file_name("reports/a.pdf"), file_name("s3://bucket/b.pdf?v=1")
    ('a.pdf', 'b.pdf')
    """
    path = source
    if "://" in source:
        path = re.split(r"[?#]", source, maxsplit=1)[0]
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def hit_to_node(hit: ScoredPage) -> NodeWithScore:
    """The page that was found, as a node with its score."""
    return NodeWithScore(node=page_to_node(hit.page), score=hit.score)


def node_to_hit(found: NodeWithScore, *, fetch_urls: bool = False) -> ScoredPage:
    """The node that was found, as a page with its score; 0 where it has none."""
    return ScoredPage(node_to_page(found.node, fetch_urls=fetch_urls), found.score or 0.0)


def page_to_node(page: Page) -> TextNode:
    """The page as the node it was made from; a page of the core's own becomes an `ImageNode`.

    Its words are kept in this process, so that evidence can be found on it; a node has no place for them.

    >>> page_to_node(Page("d1", 3, text="Hi", source="a.pdf")).metadata["file_name"]
    'a.pdf'
    """
    # A page without `given_id` was not stored as a node, whatever its metadata say.
    kept = remember_words(page).metadata.get(KEPT)
    if isinstance(kept, Mapping) and page.given_id:
        return _kept_node(page, kept)
    metadata: dict[str, Any] = {
        "page_label": str(page.metadata.get("page_label") or page.number),
        "file_name": file_name(page.source),
        "file_path": page.source,
        **page.metadata,
        "doc_id": page.doc_id,
        "number": page.number,
    }
    return ImageNode(
        id_=page.given_id or page.id,
        text=page.text,
        metadata=metadata,
        excluded_embed_metadata_keys=[key for key in metadata if key != "page_label"],
        excluded_llm_metadata_keys=[key for key in metadata if key not in ("page_label", "file_name")],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=page.doc_id)},
        **_picture_fields(page.picture, {}),
    )


def node_to_page(node: BaseNode, *, fetch_urls: bool = False) -> Page:
    """The node as a page that gives it back.

    >>> page = node_to_page(TextNode(id_="7", text="Hi", metadata={"n": 1}))
    >>> page.text, page.given_id, page_to_node(page).metadata
    ('Hi', '7', {'n': 1})
    """
    # The mark speaks of the vector that the node brought, which is not kept with the page.
    metadata = {key: value for key, value in node.metadata.items() if key != PICTURE_VECTOR_OF}
    picture = picture_of_node(node, fetch_urls=fetch_urls)
    ref_doc_id = node.ref_doc_id or node.node_id
    source = _text_of(metadata, "file_path") or _text_of(metadata, "source")
    return Page(
        doc_id=_text_of(metadata, "doc_id") or ref_doc_id,
        number=page_number(metadata),
        text=content_of(node),
        source=source,
        metadata={**metadata, KEPT: {"ref_doc_id": ref_doc_id, "keys": list(metadata), **_what_else(node, picture)}},
        picture=picture,
        given_id=node.node_id,
    )


# An index asks with the ids of all its nodes for every question: hashing 65,536 of them again each time is slow.
@functools.lru_cache(maxsize=1 << 16)
def page_id(node_id: str) -> str:
    """The id under which a store keeps the node with this id.

    >>> page_id("7") == node_to_page(TextNode(id_="7")).id
    True
    """
    return Page("-", 1, given_id=node_id).id


def content_of(node: BaseNode) -> str:
    """The node's text, without metadata."""
    if isinstance(node, TextNode):
        return node.text
    resource = getattr(node, "text_resource", None)
    if resource is None:
        return ""
    return resource.text or ""


def page_number(metadata: Mapping[str, Any]) -> int:
    """The number of a page, from 1, by its metadata; 1 where that does not say.

    >>> page_number({"number": 3, "page_label": "iii"}), page_number({"page_label": "7"}), page_number({})
    (3, 7, 1)
    """
    number = metadata.get("number", metadata.get("page_label"))
    # A label may be "iii" or "A-7": only plain numbers count pages.
    if isinstance(number, str) and re.fullmatch(r"[0-9]{1,9}", number):
        number = int(number)
    if isinstance(number, int) and not isinstance(number, bool) and number > 0:
        return number
    return 1


def _text_of(metadata: Mapping[str, Any], key: str) -> str:
    value = metadata.get(key)
    if isinstance(value, str):
        return value
    return ""


def _what_else(node: BaseNode, picture: PictureSource | None) -> dict[str, Any]:
    """The node's type and those of its fields that a page has no place for."""
    kind = "TextNode"
    if picture is not None:
        kind = "ImageNode"
    elif isinstance(node, IndexNode):
        kind = "IndexNode"
    dumped = node.model_dump(mode="json", exclude_defaults=True, exclude=_ELSEWHERE)
    known_fields = _TYPES[kind].model_fields
    fields = {name: value for name, value in dumped.items() if name in known_fields}
    # A document names its picture in a resource; it comes back as an `ImageNode`, which has fields for it.
    resource = getattr(node, "image_resource", None)
    if resource is not None and resource.path:
        fields["image_path"] = str(resource.path)
    if resource is not None and resource.url:
        fields["image_url"] = str(resource.url)
    return {"type": kind, "fields": fields}


def _kept_node(page: Page, kept: Mapping[str, Any]) -> TextNode:
    """The node that was stored as this page, as it was."""
    fields = dict(kept.get("fields") or {})
    kind = _TYPES.get(str(kept.get("type")), TextNode)
    if kind is ImageNode:
        known = {}
        for name in _PICTURE_FIELDS & fields.keys():
            known[name] = fields.pop(name)
        fields |= _picture_fields(page.picture, known)
    # The keys in the order they had, because a text node's hash goes by it; those added since come last.
    metadata = {}
    for key in kept.get("keys") or ():
        if key in page.metadata:
            metadata[key] = page.metadata[key]
    for key in sorted(page.metadata.keys() - {KEPT, *metadata}):
        metadata[key] = page.metadata[key]
    return kind(id_=page.given_id, text=page.text, metadata=metadata, **fields)


def _picture_fields(picture: PictureSource | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """How an `ImageNode` names a picture: by the path of the store's own file, else as it was given, else inline."""
    if isinstance(picture, Path):
        return {"image_path": os.path.abspath(picture)}
    if os.path.exists(known.get("image_path") or ""):
        return {"image_path": known["image_path"]}
    if picture is not None:
        return {"image": inline_base64(picture)}
    return {name: value for name, value in known.items() if name != "image"}


def with_picture_hashes(nodes: Sequence[BaseNode], *, fetch_urls: bool = False) -> list[BaseNode]:
    """New nodes whose metadata has the sha256 of their picture, so that a pipeline's cache tells them apart.

    LlamaIndex's cache goes by text and metadata alone. Documents of `VisRAGReader` have this already.
    """
    return [_with_picture_hash(node, fetch_urls) for node in nodes]


def _with_picture_hash(node: BaseNode, fetch_urls: bool) -> BaseNode:
    picture = picture_of_node(node, fetch_urls=fetch_urls)
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
