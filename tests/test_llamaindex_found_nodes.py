"""Nodes of pages that were found are those that LlamaIndex's own constructor makes, however one looks at them."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("llama_index.core")

from llama_index.core.schema import ImageNode, NodeRelationship, NodeWithScore, RelatedNodeInfo

from visrag_integrations import Page, ScoredPage
from visrag_integrations.llamaindex.convert import file_name, hit_to_node, page_to_node
from visrag_integrations.llamaindex.node_pictures import inline_base64

METADATA = {"total_pages": 5, "year": 1999, "section": {"title": "Bolts"}}


class Name(str):
    """A text that is no plain `str`."""


def made_by_llamaindex(page: Page) -> ImageNode:
    """The node of the page, field by field, with LlamaIndex's own constructor."""
    picture: dict[str, Any] = {}
    if isinstance(page.picture, Path):
        picture["image_path"] = os.path.abspath(page.picture)
    elif page.picture is not None:
        picture["image"] = inline_base64(page.picture)
    metadata = {
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
        **picture,
    )


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    assert one == other
    assert repr(one) == repr(other)
    # The order of the fields is that of a dump, and a node's hash goes by the order of its metadata.
    assert list(vars(one)) == list(vars(other))
    assert one.model_fields_set == other.model_fields_set
    assert one.model_dump() == other.model_dump()
    assert one.model_dump(exclude_unset=True) == other.model_dump(exclude_unset=True)
    assert one.to_dict() == other.to_dict()
    assert one.json() == other.json()


PAGES = {
    "no picture": Page("d1", 3, "Hi", "docs/a.pdf", METADATA),
    "no text": Page("d1", 3, "", "docs/a.pdf"),
    "labelled": Page("d1", 3, "Hi", "docs/a.pdf", {"page_label": "iii", "number": 7}),
    "a label that is a number": Page("d1", 3, "Hi", "docs/a.pdf", {"page_label": 12}),
    "half a surrogate": Page("d1", 3, "caf\udce9", "caf\udce9.pdf", {"caf\udce9": "\udce9"}),
    "of a host": Page("d1", 3, "Hi", "s3://bucket/b.pdf?v=1", METADATA, given_id="mine"),
    "of a tenant": Page("d1", 3, "Hi", "C:\\a\\b.pdf", METADATA, tenant="acme"),
    "JPEG": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("/pages/ab/1.jpg")),
    "PNG, relative": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages/1.png")),
    "PNG, in capitals": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages/1.PNG")),
    "WebP, two dots": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages/1.orig.webp")),
    "of no known type": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages/1.scan")),
    "without suffix": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages.d/1")),
    "hidden": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=Path("pages/.jpg")),
    "bytes": Page("d1", 3, "Hi", "docs/a.pdf", METADATA, picture=b"\xff\xd8\xff\xe0 a JPEG's beginning"),
    "bytes as text, which LlamaIndex reads": Page("d1", 3, b"Hi", "docs/a.pdf"),  # type: ignore[arg-type]
    "texts of another class": Page(Name("d1"), 3, Name("Hi"), Name("docs/a.pdf"), {Name("year"): 1}),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_found_node_is_what_llamaindex_makes(page: Page) -> None:
    node = page_to_node(page)
    expected = made_by_llamaindex(page)
    assert_same(node, expected)
    assert node.hash == expected.hash
    assert node.ref_doc_id == expected.ref_doc_id
    assert node.get_content("all") == expected.get_content("all")  # type: ignore[arg-type]
    assert_same(hit_to_node(ScoredPage(page, 0.5)), NodeWithScore(node=expected, score=0.5))


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"half a surrogate"}))  # pydantic writes none
def test_a_found_node_is_the_same_json(name: str) -> None:
    node = page_to_node(PAGES[name])
    expected = made_by_llamaindex(PAGES[name])
    assert node.model_dump_json() == expected.model_dump_json()
    assert node.model_dump_json(exclude_unset=True) == expected.model_dump_json(exclude_unset=True)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_found_node_is_copied_and_pickled_alike(page: Page) -> None:
    node = page_to_node(page)
    expected = made_by_llamaindex(page)
    assert_same(copy.copy(node), copy.copy(expected))
    assert_same(copy.deepcopy(node), copy.deepcopy(expected))
    assert_same(node.model_copy(update={"text": "new"}), expected.model_copy(update={"text": "new"}))
    assert_same(pickle.loads(pickle.dumps(node)), pickle.loads(pickle.dumps(expected)))
    assert_same(ImageNode.from_dict(node.to_dict()), ImageNode.from_dict(expected.to_dict()))


def test_nodes_share_nothing_that_can_be_changed() -> None:
    """Neither with one another, nor with the page."""
    page = PAGES["JPEG"]
    node = page_to_node(page)
    node.metadata["year"] = 2000
    node.excluded_llm_metadata_keys.append("year")
    node.excluded_embed_metadata_keys.clear()
    node.relationships.clear()
    node.embedding = [1.0]
    node.text = "changed"
    assert_same(page_to_node(page), made_by_llamaindex(page))
    assert page.metadata["year"] == 1999


def test_a_found_node_is_checked_when_it_is_changed() -> None:
    node = page_to_node(PAGES["JPEG"])
    with pytest.raises(ValidationError, match="text"):
        node.text = 7  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("page", "field"),
    [
        (Page("d1", 1, None), "text"),  # type: ignore[arg-type]
        (Page("d1", 1, given_id=7), "id_"),  # type: ignore[arg-type]
        (Page("d1", 1, metadata={3: "three"}), "metadata"),  # type: ignore[dict-item]
        (Page(7, 1), "node_id"),  # type: ignore[arg-type]
    ],
)
def test_what_llamaindex_refuses_is_refused(page: Page, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        page_to_node(page)
    with pytest.raises(ValidationError, match=field):
        made_by_llamaindex(page)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a.pdf", "a.pdf"),
        ("reports/a.pdf", "a.pdf"),
        ("C:\\reports\\a.pdf", "a.pdf"),
        ("mixed\\of/both\\a.pdf", "a.pdf"),
        ("folder/", "folder"),
        ("folder\\/", "folder"),
        ("/", ""),
        ("", ""),
        ("s3://bucket/b.pdf?v=1#2", "b.pdf"),
        ("https://host/", "host"),
    ],
)
def test_the_name_of_a_file_is_the_last_part_of_its_source(source: str, name: str) -> None:
    assert file_name(source) == name
