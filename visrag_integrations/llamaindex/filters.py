"""LlamaIndex's `MetadataFilters` as the core's filters: every operator, nested to any depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from visrag_integrations.errors import FilterError
from visrag_integrations.llamaindex.convert import KEPT
from visrag_integrations.types import Page

Scroll = Callable[[], Iterator[Page]]
CoreFilter = Mapping[str, Any]

_REF_DOC_ID = f"{KEPT}.ref_doc_id"
# LlamaIndex's names for the document a node is from.
_OWN_KEYS = {"ref_doc_id": _REF_DOC_ID, "document_id": _REF_DOC_ID}
_SIMPLE = {
    FilterOperator.EQ: "eq",
    FilterOperator.NE: "ne",
    FilterOperator.GT: "gt",
    FilterOperator.LT: "lt",
    FilterOperator.GTE: "gte",
    FilterOperator.LTE: "lte",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "nin",
    FilterOperator.ANY: "in",
    FilterOperator.CONTAINS: "eq",
}
# Operators whose value is a list; a single value in its place is a mistake that would find nothing.
_LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)


def to_filter(filters: MetadataFilters | CoreFilter | None, scroll: Scroll) -> CoreFilter | None:
    """The filter as the core takes it; None where it asks for nothing, and a dict as it is.

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
        made = _part(part, scroll)
        if made:
            parts.append(made)
    if not parts:
        return None
    if filters.condition == FilterCondition.OR:
        return {"$or": parts}
    if filters.condition == FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {"$and": parts}


def of_ref_docs(ref_doc_ids: list[str]) -> CoreFilter:
    """Pages of these documents, by LlamaIndex's id of the document or the core's."""
    return {"$or": [{_REF_DOC_ID: ref_doc_ids}, {"doc_id": ref_doc_ids}]}


def _part(part: MetadataFilter | MetadataFilters, scroll: Scroll) -> CoreFilter | None:
    if isinstance(part, MetadataFilters):
        return to_filter(part, scroll)
    key = _OWN_KEYS.get(part.key, part.key)
    value = part.value
    operator = part.operator
    if operator == FilterOperator.IS_EMPTY:
        return {"$or": [{key: None}, {key: ""}]}
    if operator in (FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE):
        return {"$ids": [page.id for page in scroll() if _holds_text(page, part)]}
    if operator in _LISTS and not isinstance(value, list):
        raise FilterError(
            f"The operator {operator.value!r} on {part.key!r} has {value!r}; it takes a list, such as [{value!r}]."
        )
    if operator == FilterOperator.ALL:
        # Of a list in the metadata: equal to one of its elements, for each of the values.
        wanted = [{key: {"eq": one}} for one in value]  # type: ignore[union-attr]
        return {"$and": wanted} if wanted else None
    if operator not in _SIMPLE:
        raise FilterError(f"The operator {operator.value!r} is not known; there are {', '.join(map(str, _SIMPLE))}.")
    return {key: {_SIMPLE[operator]: value}}


def _holds_text(page: Page, part: MetadataFilter) -> bool:
    """Whether the metadata (or, under the key "text", the page's text) has the value somewhere in it."""
    wanted = part.value
    found = _value_of(page, part.key)
    if not isinstance(wanted, str):
        raise FilterError(f"The operator {part.operator.value!r} on {part.key!r} has {wanted!r}; it takes a text.")
    if not isinstance(found, str):
        return False
    if part.operator == FilterOperator.TEXT_MATCH_INSENSITIVE:
        return wanted.casefold() in found.casefold()
    return wanted in found


def _value_of(page: Page, key: str) -> Any:
    if key in page.metadata:
        return page.metadata[key]
    fields = {"text": page.text, "source": page.source, "doc_id": page.doc_id}
    if key in fields:
        return fields[key]
    # "author.name" is the key "name" inside the key "author".
    value: Any = page.metadata
    for part in key.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value
