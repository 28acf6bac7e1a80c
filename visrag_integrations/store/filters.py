"""A metadata filter as people write it, read into conditions that every engine can translate.

What a key means on each page (a host's own `doc_id`, numbers written 2020 or 2020.0) is `store.shown`'s part.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from visrag_integrations.errors import FilterError, storable
from visrag_integrations.store.conditions import (
    All,
    Condition,
    Either,
    Empty,
    FieldMatch,
    Ids,
    Native,
    Not,
    Value,
    all_of,
)
from visrag_integrations.store.filter_values import equal_value, range_of, short

# Key parts that Qdrant's payload paths take as they are; "tags[0]" and "tags[]" are its own notation for lists.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\[\d*\])?")
# Keys that are no metadata of a page but fields of the store: see `payload.page_to_payload`.
_OWN_PATHS = {"tenant": "visrag.tenant", "source": "visrag.source_keys"}
DOCUMENT = "document"
"""`Page.doc_id` itself, whatever a host's metadata says under that key: see `shown.as_shown`."""
SHOWN_TENANT = "shown.tenant"
"""The key `tenant` where hosts show it: see `shown.as_shown`."""
# Filters are trees that people write; deeper ones are attacks on the parser's stack.
_MAX_DEPTH = 64
_RANGE = ("gte", "gt", "lte", "lt")
_OPERATORS = ("eq", "ne", "in", "nin", "any", "not", *_RANGE, "exists")


def parse_filter(filter: Mapping[str, Any] | None) -> Condition | None:
    """The filter as one condition; None when it asks for nothing.

    A key is a metadata key (nested ones with dots: `"author.name"`), or "tenant", or "$and", "$or" (lists of filters),
    "$not" (a filter), "$ids" (a list of `Page.id`), "$doc_ids" (a list of `Page.doc_id`), "$metadata" (a filter on
    what LangChain and LlamaIndex show as metadata). "source" matches the full path or the file name. A value is what
    the field must be, a list of what it may be, None for a field that is not set, or a dict of operators: eq, ne, in,
    nin, gte, gt, lte, lt, exists (each also with a "$" before it; "any" is in, "not" is ne or nin). Bounds may be ISO
    dates.

    >>> parse_filter({"doc_id": "a"})
    FieldMatch(key='metadata.doc_id', values=('a',))
    >>> parse_filter({"number": {"gte": 3, "lt": 9}})
    Range(key='metadata.number', bounds={'gte': 3, 'lt': 9}, dates=False)

    Raises:
        FilterError: An unknown operator, a value that no field can have, or the key "page".
    """
    return _FilterReader(by_hosts=False).read(filter)


def path_of(key: str, *, by_hosts: bool = False) -> str:
    """Where a filter key lies in the payload.

    >>> path_of("author.name"), path_of("tenant"), path_of("my key")
    ('metadata.author.name', 'visrag.tenant', 'metadata."my key"')

    Args:
        key: The key of a filter.
        by_hosts: Whether it stands in "$metadata": "tenant" and "page" are metadata keys there.
    """
    if by_hosts and key.removeprefix("metadata.") == "tenant":
        return SHOWN_TENANT
    if key in _OWN_PATHS:
        return _OWN_PATHS[key]
    path = "metadata"
    for part in storable(key).removeprefix("metadata.").split("."):
        if not part or '"' in part or "\\" in part:
            raise FilterError(
                f"The filter key {short(key)} cannot be a metadata key: no part may be empty or hold a quote or "
                "backslash."
            )
        if _PLAIN.fullmatch(part):
            path += f".{part}"
        else:
            path += f'."{part}"'
    return path


class _FilterReader:
    """Reads one filter; `by_hosts` says whose keys it has."""

    def __init__(self, *, by_hosts: bool, depth: int = 0) -> None:
        self.by_hosts, self.depth = by_hosts, depth

    def read(self, filter: Any) -> Condition | None:
        """The filter as one condition."""
        if filter is None:
            return None
        if type(filter).__module__.startswith("qdrant_client"):
            return Native(filter)
        if not isinstance(filter, Mapping):
            raise FilterError(f'A filter is a dict such as {{"source": "report.pdf"}}, not {short(filter)}.')
        return all_of([self._item(key, value) for key, value in filter.items()])

    def _inner(self, filter: Any, *, by_hosts: bool | None = None) -> Condition | None:
        """A filter inside this one."""
        if self.depth >= _MAX_DEPTH:
            raise FilterError(f"The filter is nested deeper than {_MAX_DEPTH} levels. Say it in fewer.")
        hosts = self.by_hosts if by_hosts is None else by_hosts
        return _FilterReader(by_hosts=hosts, depth=self.depth + 1).read(filter)

    def _item(self, key: Any, value: Any) -> Condition:
        if not isinstance(key, str):
            raise FilterError(f"Filter keys are metadata keys (strings), not {short(key)}.")
        match key:
            case "$and" | "$or":
                return self._list(key, value)
            case "$not":
                return Not(self._inner(value) or All(()))
            case "$metadata":
                return self._inner(value, by_hosts=True) or All(())
            case "$ids":
                return Ids(_ids(value))
            case "$doc_ids":
                return FieldMatch(DOCUMENT, _doc_ids(value))
        if key.startswith("$"):
            raise FilterError(f"Unknown operator {key!r}; around filters there are $and, $or, $not and $ids.")
        if not self.by_hosts and key.removeprefix("metadata.") == "page":
            raise FilterError(_no_page(value))
        path = path_of(key, by_hosts=self.by_hosts)
        if isinstance(value, Mapping):
            return _operators(key, path, value)
        return _equal(key, path, value)

    def _list(self, operator: str, filters: Any) -> Condition:
        """The filters of an "$and" or "$or"."""
        if not isinstance(filters, (list, tuple)) or not filters:
            raise FilterError(f"{operator} takes a list of at least one filter, not {short(filters)}.")
        parts = []
        for each in filters:
            part = self._inner(each)
            if part is not None:
                parts.append(part)
            elif operator == "$or":
                return All(())  # an alternative that asks for nothing holds for every page
        if operator == "$and":
            return All(tuple(parts))
        return Either(tuple(parts))


def _no_page(value: Any) -> str:
    """Why a filter on "page" is refused, and what to type instead."""
    example = 2
    if isinstance(value, int) and value > 1:
        example = value
    return (
        'A filter has no key "page": elsewhere it counts from 0, and page numbers here count from 1. '
        f'Say number={example} ({{"number": {example}}}) for page {example}.'
    )


def _ids(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise FilterError(f"$ids takes a list of page ids (Page.id), not {short(value)}.")
    try:
        return tuple(str(uuid.UUID(str(id_))) for id_ in value)
    except ValueError as err:
        raise FilterError(f"$ids has something that is no page id: {short(value)}. Page ids are UUIDs.") from err


def _doc_ids(value: Any) -> tuple[str, ...]:
    listed = list(value) if isinstance(value, (list, tuple, set, frozenset)) else None
    if listed is None or not all(isinstance(doc_id, str) for doc_id in listed):
        raise FilterError(f"$doc_ids takes a list of document ids (Page.doc_id), not {short(value)}.")
    return tuple(storable(doc_id) for doc_id in listed)


def _operators(key: str, path: str, operators: Mapping[Any, Any]) -> Condition:
    if not operators:
        raise FilterError(f"The filter on {key!r} is empty; say for example {{{key!r}: {{'gte': 3}}}}.")
    bounds: dict[str, Any] = {}
    found: list[Condition] = []
    for operator, value in operators.items():
        name = str(operator).removeprefix("$")
        if name in _RANGE:
            bounds[name] = value  # lower and upper bound become one range
        else:
            found.append(_operator(key, path, operator, value))
    if bounds:
        found.append(range_of(key, path, bounds))
    return all_of(found) or All(())


def _operator(key: str, path: str, operator: Any, value: Any) -> Condition:
    """One operator that stands alone."""
    match str(operator).removeprefix("$"):
        case "eq" | "in" | "any":
            return _equal(key, path, value)
        case "ne" | "nin" | "not":
            return Not(_equal(key, path, value))
        case "exists":
            empty = Empty(path)
            return Not(empty) if value else empty
        case _:
            raise FilterError(f"Unknown operator {operator!r} on {key!r}; there are {', '.join(_OPERATORS)}.")


def _equal(key: str, path: str, value: Any) -> Condition:
    """The field is the value, or one of a list of values."""
    if value is None:
        return Empty(path)
    values = [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        values = list(value)
    exact: list[Value] = []
    # Engines match strings, integers and true/false only; 2.5 is looked for as the range from 2.5 to 2.5, and so is a
    # point in time, which may be written in several ways.
    ranges: list[Condition] = []
    for one in values:
        matched, ranged = equal_value(key, path, one)
        if matched is not None:
            exact.append(matched)
        if ranged is not None:
            ranges.append(ranged)
    if not ranges:
        return FieldMatch(path, tuple(exact))  # of an empty list too: nothing matches it
    if not exact and len(ranges) == 1:
        return ranges[0]
    if exact:
        return Either((FieldMatch(path, tuple(exact)), *ranges))
    return Either(tuple(ranges))
