"""A metadata filter as people write it, read into conditions that every engine can translate."""

from __future__ import annotations

import datetime
import math
import os
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from visrag_integrations.errors import FilterError
from visrag_integrations.store.conditions import (
    All,
    Condition,
    Either,
    Empty,
    FieldMatch,
    Ids,
    Native,
    Not,
    Range,
    Value,
    all_of,
)
from visrag_integrations.store.payload import fits_64_bits, storable

# Key parts that Qdrant's payload paths take as they are; "tags[0]" and "tags[]" are its own notation for lists.
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\[\d*\])?")
# ISO 8601 as the engines read it: a date, or a date and a time, with or without seconds and a time zone.
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII)
# Keys that are no metadata of a page but fields of the store: see `payload.page_to_payload`.
_OWN_PATHS = {"tenant": "visrag.tenant", "source": "visrag.source_keys", "sources": "visrag.source_keys"}
_RANGE = ("gte", "gt", "lte", "lt")
_OPERATORS = ("eq", "ne", "in", "nin", "any", "not", *_RANGE, "exists")


def parse_filter(filter: Mapping[str, Any] | None) -> Condition | None:
    """The filter as one condition; None when it asks for nothing.

    A key is a metadata key (nested ones with dots: `"author.name"`), or "tenant", or "$and", "$or" (lists of filters),
    "$not" (a filter), "$ids" (a list of `Page.id`). "source" matches the full path or the file name. A value is what
    the field must be, a list of what it may be, None for a field that is not set, or a dict of operators: eq, ne, in,
    nin, gte, gt, lte, lt, exists (each also with a "$" before it; "any" is in, "not" is ne or nin). Bounds may be ISO
    dates.

    >>> parse_filter({"doc_id": "a"})
    FieldMatch(key='metadata.doc_id', values=('a',))
    >>> parse_filter({"page": {"gte": 3, "lt": 9}})
    Range(key='metadata.page', bounds={'gte': 3, 'lt': 9}, dates=False)

    Raises:
        FilterError: An unknown operator, or a value that no field can have.
    """
    if filter is None:
        return None
    if type(filter).__module__.startswith("qdrant_client"):
        return Native(filter)
    if not isinstance(filter, Mapping):
        raise FilterError(f'A filter is a dict such as {{"source": "report.pdf"}}, not {_short(filter)}.')
    return all_of([_parse_item(key, value) for key, value in filter.items()])


def path_of(key: str) -> str:
    """Where a filter key lies in the payload.

    >>> path_of("author.name"), path_of("tenant"), path_of("my key")
    ('metadata.author.name', 'visrag.tenant', 'metadata."my key"')
    """
    if key in _OWN_PATHS:
        return _OWN_PATHS[key]
    path = "metadata"
    for part in storable(key).removeprefix("metadata.").split("."):
        if not part or '"' in part or "\\" in part:
            raise FilterError(
                f"The filter key {_short(key)} cannot be a metadata key: no part may be empty or hold a quote or "
                "backslash."
            )
        if _PLAIN.fullmatch(part):
            path += f".{part}"
        else:
            path += f'."{part}"'
    return path


def _parse_item(key: Any, value: Any) -> Condition:
    if not isinstance(key, str):
        raise FilterError(f"Filter keys are metadata keys (strings), not {_short(key)}.")
    if key in ("$and", "$or"):
        return _parse_list(key, value)
    if key == "$not":
        return Not(parse_filter(value) or All(()))
    if key == "$ids":
        return Ids(_ids(value))
    if key.startswith("$"):
        raise FilterError(f"Unknown operator {key!r}; around filters there are $and, $or, $not and $ids.")
    if isinstance(value, Mapping):
        return _parse_operators(key, value)
    return _equal(key, value)


def _parse_list(operator: str, filters: Any) -> Condition:
    """The filters of an "$and" or "$or"."""
    if not isinstance(filters, (list, tuple)) or not filters:
        raise FilterError(f"{operator} takes a list of at least one filter, not {_short(filters)}.")
    parts = []
    for each in filters:
        part = parse_filter(each)
        if part is not None:
            parts.append(part)
        elif operator == "$or":
            return All(())  # an alternative that asks for nothing holds for every page
    if operator == "$and":
        return All(tuple(parts))
    return Either(tuple(parts))


def _ids(value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, Mapping)) or not isinstance(value, Iterable):
        raise FilterError(f"$ids takes a list of page ids (Page.id), not {_short(value)}.")
    try:
        return tuple(str(uuid.UUID(str(id_))) for id_ in value)
    except ValueError as err:
        raise FilterError(f"$ids has something that is no page id: {_short(value)}. Page ids are UUIDs.") from err


def _parse_operators(key: str, operators: Mapping[Any, Any]) -> Condition:
    if not operators:
        raise FilterError(f"The filter on {key!r} is empty; say for example {{{key!r}: {{'gte': 3}}}}.")
    bounds: dict[str, Any] = {}
    found: list[Condition] = []
    for operator, value in operators.items():
        name = str(operator).removeprefix("$")
        if name in _RANGE:
            bounds[name] = value  # lower and upper bound become one range
        else:
            found.append(_parse_operator(key, operator, value))
    if bounds:
        found.append(_range(key, bounds))
    return all_of(found) or All(())


def _parse_operator(key: str, operator: Any, value: Any) -> Condition:
    """One operator that stands alone."""
    match str(operator).removeprefix("$"):
        case "eq" | "in" | "any":
            return _equal(key, value)
        case "ne" | "nin" | "not":
            return Not(_equal(key, value))
        case "exists":
            empty = Empty(path_of(key))
            return Not(empty) if value else empty
        case _:
            raise FilterError(f"Unknown operator {operator!r} on {key!r}; there are {', '.join(_OPERATORS)}.")


def _equal(key: str, value: Any) -> Condition:
    """The field is the value, or one of a list of values."""
    path = path_of(key)
    if value is None:
        return Empty(path)
    values = [value]
    if isinstance(value, (list, tuple, set, frozenset)):
        values = list(value)
    exact: list[Value] = []
    # Engines match strings, integers and true/false only; 2.5 is looked for as the range from 2.5 to 2.5.
    ranges: list[Condition] = []
    for one in values:
        if isinstance(one, float) and not one.is_integer():
            ranges.append(_range(key, {"gte": one, "lte": one}))
        else:
            exact.append(_value(key, one))
    if not ranges:
        return FieldMatch(path, tuple(exact))  # of an empty list too: nothing matches it
    if not exact and len(ranges) == 1:
        return ranges[0]
    if exact:
        return Either((FieldMatch(path, tuple(exact)), *ranges))
    return Either(tuple(ranges))


def _value(key: str, value: Any) -> Value:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, os.PathLike):
        value = str(value)
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool) or (isinstance(value, int) and fits_64_bits(value)):
        return value
    raise FilterError(
        f"The filter on {key!r} has {_short(value)}; a field can be a string, a number (64 bits) or true/false."
    )


def _range(key: str, bounds: Mapping[str, Any]) -> Range:
    written: dict[str, Any] = {}
    for name, value in bounds.items():
        written[name] = value.isoformat() if isinstance(value, datetime.date) else value
    if all(isinstance(value, str) for value in written.values()):
        for text in written.values():
            _check_date(key, text)
        return Range(path_of(key), written, dates=True)
    for value in bounds.values():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_number(value):
            raise FilterError(f"A bound on {key!r} is {_short(value)}; bounds are numbers, or ISO dates (all of them).")
    return Range(path_of(key), dict(bounds))


def _is_number(value: float) -> bool:
    try:
        return not math.isnan(value)
    except OverflowError:
        return False  # an integer of more than 308 digits


def _check_date(key: str, text: str) -> None:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError(text)
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not read the Z
    except ValueError as err:
        raise FilterError(
            f"The bound {text!r} on {key!r} is neither a number nor a date such as '2024-05-31'."
        ) from err


def _short(value: object) -> str:
    """The type and the value, for a message; a long value is cut off."""
    text = repr(value)
    if len(text) > 60:
        text = text[:57] + "..."
    return f"{type(value).__name__} {text}"
