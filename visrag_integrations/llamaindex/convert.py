"""Pages as LlamaIndex documents and nodes, and back. The only place that knows LlamaIndex's metadata keys.

A page from a reader has the keys LlamaIndex's own readers use (`page_label`, `file_name`, `file_path`) plus `number`
from 1, `doc_id` and `image_sha256`. A node that goes into a store comes back with its id, metadata and relationships;
what a payload has no place for is kept under the metadata key `_node`.
"""

from __future__ import annotations

import functools
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    NodeWithScore,
    TextNode,
)

from visrag_integrations.grounding import remember_words
from visrag_integrations.llamaindex.found_nodes import found_image_node
from visrag_integrations.llamaindex.node_pictures import NO_URLS, UrlRules, inline_base64, picture_of_node
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
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def hit_to_node(hit: ScoredPage) -> NodeWithScore:
    """The page that was found, as a node with its score."""
    return NodeWithScore(node=page_to_node(hit.page), score=hit.score)


def node_to_hit(found: NodeWithScore, urls: UrlRules = NO_URLS) -> ScoredPage:
    """The node that was found, as a page with its score; 0 where it has none."""
    return ScoredPage(node_to_page(found.node, urls), found.score or 0.0)


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
    picture: dict[str, Any] = {}
    if page.picture is not None:
        picture = _picture_fields(page.picture, {})
    return found_image_node(page, _metadata_of_core(page), picture)


def shown_metadata(page: Page) -> dict[str, Any]:
    """The metadata of the page's node: those it was stored with, or of a page of the core what is known of it.

    >>> shown_metadata(Page("d1", 3, source="reports/a.pdf"))
    {'page_label': '3', 'file_name': 'a.pdf', 'file_path': 'reports/a.pdf', 'doc_id': 'd1', 'number': 3}
    """
    kept = page.metadata.get(KEPT)
    if isinstance(kept, Mapping) and page.given_id:
        return _kept_metadata(page, kept)
    return _metadata_of_core(page)


def _metadata_of_core(page: Page) -> dict[str, Any]:
    return {
        "page_label": str(page.metadata.get("page_label") or page.number),
        "file_name": file_name(page.source),
        "file_path": page.source,
        **page.metadata,
        "doc_id": page.doc_id,
        "number": page.number,
    }


def node_to_page(node: BaseNode, urls: UrlRules = NO_URLS, tenant: str = "") -> Page:
    """The node as a page that gives it back, of this tenant.

    >>> page = node_to_page(TextNode(id_="7", text="Hi", metadata={"n": 1}))
    >>> page.text, page.given_id, page_to_node(page).metadata
    ('Hi', '7', {'n': 1})
    """
    # The mark speaks of the vector that the node brought, which is not kept with the page.
    metadata = {key: value for key, value in node.metadata.items() if key != PICTURE_VECTOR_OF}
    picture = picture_of_node(node, urls)
    ref_doc_id = node.ref_doc_id or node.node_id
    source = _text_of(metadata, "file_path") or _text_of(metadata, "source")
    kept = {"ref_doc_id": ref_doc_id, "keys": list(metadata), **_what_else(node, picture)}
    if KEPT in metadata:
        kept["own"] = metadata[KEPT]  # the user's own key of that name
    return Page(
        doc_id=_text_of(metadata, "doc_id") or ref_doc_id,
        number=page_number(metadata),
        text=content_of(node),
        source=source,
        metadata={**metadata, KEPT: kept},
        picture=picture,
        given_id=node.node_id,
        tenant=tenant,
    )


# An index asks with the ids of all its nodes for every question: hashing 65,536 of them again each time is slow.
@functools.lru_cache(maxsize=1 << 16)
def page_id(node_id: str, tenant: str = "") -> str:
    """The id under which a store keeps this tenant's node with this id.

    >>> page_id("7") == node_to_page(TextNode(id_="7")).id
    True
    """
    return Page("-", 1, given_id=node_id, tenant=tenant).id


def page_ids(node_ids: Iterable[str], tenant: str = "") -> list[str]:
    """Where the nodes with these ids may be kept, in order: a page that the core indexed is its own id's node."""
    ids = []
    for node_id in node_ids:
        ids.append(page_id(node_id, tenant))
        if tenant and _is_uuid(node_id):
            ids.append(node_id)  # of a tenant other ids are made of those of nodes
    return ids


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


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


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
    # As Python has it: the store knows the JSON form of dates and numbers that pydantic refuses.
    dumped = _without_enums(node.model_dump(exclude_defaults=True, exclude=_ELSEWHERE))
    known_fields = _TYPES[kind].model_fields
    fields = {name: value for name, value in dumped.items() if name in known_fields}
    # A document names its picture in a resource; it comes back as an `ImageNode`, which has fields for it.
    resource = getattr(node, "image_resource", None)
    if resource is not None and resource.path:
        fields["image_path"] = str(resource.path)
    if resource is not None and resource.url:
        fields["image_url"] = str(resource.url)
    return {"type": kind, "fields": fields}


def _without_enums(value: Any) -> Any:
    """The value with the text or number of every enum in its place, in keys too."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_without_enums(key): _without_enums(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return list(map(_without_enums, value))
    return value


def _kept_node(page: Page, kept: Mapping[str, Any]) -> TextNode:
    """The node that was stored as this page, as it was."""
    fields = dict(kept.get("fields") or {})
    kind = _TYPES.get(str(kept.get("type")), TextNode)
    if kind is ImageNode:
        known = {}
        for name in _PICTURE_FIELDS & fields.keys():
            known[name] = fields.pop(name)
        fields |= _picture_fields(page.picture, known)
    metadata = _kept_metadata(page, kept)
    return kind(id_=page.given_id, text=page.text, metadata=metadata, **fields)


def _kept_metadata(page: Page, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of the node that was stored as this page."""
    # The keys in the order they had, because a text node's hash goes by it; those added since come last.
    metadata = {}
    for key in kept.get("keys") or ():
        if key == KEPT:
            metadata[key] = kept.get("own")
        elif key in page.metadata:
            metadata[key] = page.metadata[key]
    for key in sorted(page.metadata.keys() - {KEPT, *metadata}):
        metadata[key] = page.metadata[key]
    return metadata


def _picture_fields(picture: PictureSource | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """How an `ImageNode` names a picture: by the path of the store's own file, else as it was given, else inline."""
    if isinstance(picture, Path):
        return {"image_path": os.path.abspath(picture)}
    if os.path.exists(known.get("image_path") or ""):
        return {"image_path": known["image_path"]}
    if picture is not None:
        return {"image": inline_base64(picture)}
    return {name: value for name, value in known.items() if name != "image"}
