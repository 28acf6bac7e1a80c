"""LlamaIndex's `MetadataFilters` as the core's filters: every operator, nested to any depth.

A key means what a node shows under it. A node that was stored shows its own metadata. A page that the core indexed
shows what `convert.shown_metadata` makes of it, so those keys are looked for where the core keeps them:

    file_name, file_path, page_label   a node: its own metadata   a page of the core: its source, its number
    doc_id, ref_doc_id, document_id    its own metadata, else the id of the document it is from
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from visrag_integrations.errors import FilterError
from visrag_integrations.interfaces.stores import shown_filter, with_documents
from visrag_integrations.llamaindex.convert import KEPT, shown_metadata
from visrag_integrations.types import Page

Scroll = Callable[[], Iterator[Page]]
CoreFilter = Mapping[str, Any]
MakeCondition = Callable[[str], CoreFilter]
"""A condition on the metadata key that is given."""

_REF_DOC_ID = f"{KEPT}.ref_doc_id"
_IS_NODE = {_REF_DOC_ID: {"exists": True}}
_IS_PAGE = {_REF_DOC_ID: {"exists": False}}
_DOCUMENT_KEYS = ("doc_id", "ref_doc_id", "document_id")
"""LlamaIndex's names for the document a node is from, unless the node's metadata says something else under them."""
# The core's key for what a page of its own shows under LlamaIndex's. "source" fits the path and the file's name.
_KEYS_OF_PAGES = {"file_name": "source", "file_path": "metadata.source"}
_SIMPLE = {
    FilterOperator.EQ: "eq",
    FilterOperator.GT: "gt",
    FilterOperator.LT: "lt",
    FilterOperator.GTE: "gte",
    FilterOperator.LTE: "lte",
    FilterOperator.IN: "in",
    FilterOperator.ANY: "in",
    FilterOperator.CONTAINS: "eq",
}
# What is not equal is everything else, also nodes without the key: the opposite of another operator.
_OPPOSITES = {FilterOperator.NE: FilterOperator.EQ, FilterOperator.NIN: FilterOperator.IN}
# Operators whose value is a list; a single value in its place is a mistake that would find nothing.
_LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)
_TEXTS = (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE)
_MOST_MATCHES = 65_536
"""Pages that a text operator may find. Their ids travel with the search: more would take megabytes for each question,
and a text that so many pages hold tells them apart no more."""


def store_filter(store: object, filters: MetadataFilters | CoreFilter | None, scroll: Scroll) -> CoreFilter | None:
    """The filter as this store takes it, its keys as nodes show them; None where it asks for nothing.

    Args:
        store: Which is asked.
        filters: LlamaIndex's filters, or a dict as the core takes it.
        scroll: Gives every page of the store.

    Raises:
        FilterError: An operator with a value it cannot have.
    """
    return shown_filter(store, to_filter(filters, scroll))


def to_filter(filters: MetadataFilters | CoreFilter | None, scroll: Scroll) -> CoreFilter | None:
    """The filter in the core's words; None where it asks for nothing, and a dict as it is.

    >>> to_filter(MetadataFilters.from_dicts([{"key": "year", "value": 2020, "operator": ">"}]), list)
    {'$and': [{'year': {'gt': 2020}}]}

    Args:
        filters: LlamaIndex's filters, or the core's own.
        scroll: Gives every stored page; called for the two text operators only, which no index answers.

    Raises:
        FilterError: An operator with a value it cannot have.
    """
    if not isinstance(filters, MetadataFilters):
        return filters
    parts = []
    for part in filters.filters:
        made = to_filter(part, scroll) if isinstance(part, MetadataFilters) else _condition(part, scroll)
        if made:
            parts.append(made)
    if not parts:
        return None
    if filters.condition == FilterCondition.OR:
        return {"$or": parts}
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$and": parts}


def of_ref_docs(store: object, ref_doc_ids: list[str]) -> CoreFilter:
    """What these documents consist of: by LlamaIndex's id of the document, the core's, or the path of a file.

    A path is one where a node says it twice, as `VisRAGReader` does: a `doc_id` alone is a key of the user's own.
    """
    by_path = {"$and": [{"doc_id": ref_doc_ids}, {"file_path": ref_doc_ids}]}
    nodes = shown_filter(store, {"$or": [{_REF_DOC_ID: ref_doc_ids}, by_path]})
    pages = {"$and": [shown_filter(store, _IS_PAGE), with_documents(store, ref_doc_ids)]}
    return {"$or": [nodes, pages]}


def _condition(part: MetadataFilter, scroll: Scroll) -> CoreFilter | None:
    """One filter, where the key is shown."""
    if part.operator in _TEXTS:
        return {"$ids": _ids_with_text(part, scroll)}
    if part.operator in _LISTS and not isinstance(part.value, list):
        raise FilterError(
            f"The operator {part.operator.value!r} on {part.key!r} has {part.value!r}; it takes a list, such as "
            f"[{part.value!r}]."
        )
    if part.operator in _OPPOSITES:
        opposite = part.model_copy(update={"operator": _OPPOSITES[part.operator]})
        return {"$not": _condition(opposite, scroll)}
    if part.operator == FilterOperator.ALL and not part.value:
        return None  # of no values each is there
    make = _maker(part)
    if part.key in _DOCUMENT_KEYS:
        return _document(part.key, make)
    if part.key in _KEYS_OF_PAGES:
        return _or_of_page(part.key, make, make(_KEYS_OF_PAGES[part.key]))
    if part.key == "page_label":
        return _or_of_page(part.key, make, _number(part))
    return make(part.key)


def _maker(part: MetadataFilter) -> MakeCondition:
    """What the operator asks of a key."""
    value: Any = part.value
    if part.operator == FilterOperator.IS_EMPTY:
        return lambda key: {"$or": [{key: None}, {key: ""}]}
    if part.operator == FilterOperator.ALL:
        # Of a list in the metadata: equal to one of its elements, for each of the values.
        return lambda key: {"$and": [{key: {"eq": one}} for one in value]}
    if part.operator not in _SIMPLE:
        known = [operator.value for operator in FilterOperator]
        raise FilterError(f"The operator {part.operator.value!r} is not known; there are {', '.join(known)}.")
    name = _SIMPLE[part.operator]
    return lambda key: {key: {name: value}}


def _document(key: str, make: MakeCondition) -> CoreFilter:
    """The key in the node's own metadata; where there is none, the document that the node, or the page, is from."""
    own = {"$and": [{key: {"exists": True}}, _IS_NODE, make(key)]}
    ref = {"$and": [{key: {"exists": False}}, _IS_NODE, make(_REF_DOC_ID)]}
    return {"$or": [own, ref, {"$and": [_IS_PAGE, make("doc_id")]}]}


def _or_of_page(key: str, make: MakeCondition, of_page: CoreFilter) -> CoreFilter:
    """The key in the metadata; where a page of the core has none, what it shows in its place."""
    return {"$or": [make(key), {"$and": [_IS_PAGE, {key: {"exists": False}}, of_page]}]}


def _number(part: MetadataFilter) -> CoreFilter:
    """A page that has no label shows its number as one."""
    values = part.value if isinstance(part.value, list) else [part.value]
    numbers = [int(value) for value in values if isinstance(value, str) and value.isascii() and value.isdigit()]
    if part.operator == FilterOperator.ALL and len(set(values)) > 1:
        numbers = []  # no label is two labels
    return {"number": {"in": numbers}}


def _ids_with_text(part: MetadataFilter, scroll: Scroll) -> list[str]:
    if not isinstance(part.value, str):
        raise FilterError(f"The operator {part.operator.value!r} on {part.key!r} has {part.value!r}; it takes a text.")
    found = (page.id for page in scroll() if _holds_text(page, part))
    ids = list(itertools.islice(found, _MOST_MATCHES + 1))
    if len(ids) > _MOST_MATCHES:
        raise FilterError(
            f"The text {part.value!r} stands in {part.key!r} of more than {_MOST_MATCHES} pages. Say more of it, or "
            "filter by another key."
        )
    return ids


def _holds_text(page: Page, part: MetadataFilter) -> bool:
    """Whether the metadata (or, under the key "text", the page's text) has the value somewhere in it."""
    wanted = str(part.value)
    found = _value_of(page, part.key)
    if not isinstance(found, str):
        return False
    if part.operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
        return wanted.casefold() in found.casefold()
    return wanted in found


def _value_of(page: Page, key: str) -> Any:
    """What a node of this page shows under the key."""
    metadata = shown_metadata(page)
    if key in metadata:
        return metadata[key]
    if key == "text":
        return page.text
    if key == "source":
        return page.source
    if key in _DOCUMENT_KEYS:
        kept = page.metadata.get(KEPT)
        return kept.get("ref_doc_id") if isinstance(kept, Mapping) else page.doc_id
    # "author.name" is the key "name" inside the key "author".
    value: Any = metadata
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
