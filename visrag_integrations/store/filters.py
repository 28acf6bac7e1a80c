"""A metadata filter as people write it, read into conditions that every engine can translate."""

from __future__ import annotations

import datetime
import math
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.errors import FilterError

Value = str | int | bool
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\[\d*\])?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)?)?)?", re.ASCII)
_OWN_PATHS = {"tenant": "visrag.tenant", "source": "visrag.source_keys", "sources": "visrag.source_keys"}
_RANGE = ("gte", "gt", "lte", "lt")
_OPERATORS = ("eq", "ne", "in", "nin", "any", "not", *_RANGE, "exists")


@dataclass(frozen=True)
class Match:
    """The field is one of the values (a list field: has one of them)."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """The field is a number within the bounds, or a point in time where `dates`."""

    key: str
    bounds: Mapping[str, Any] = field(hash=False)
    dates: bool = False


@dataclass(frozen=True)
class Empty:
    """The field is missing, null or an empty list."""

    key: str


@dataclass(frozen=True)
class Ids:
    """The point is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """The condition does not hold."""

    condition: Condition


@dataclass(frozen=True)
class All:
    """Every condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Either:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Native:
    """A filter object of the engine's own."""

    filter: Any


Condition = Match | Range | Empty | Ids | Not | All | Either | Native


def parse_filter(filter: Mapping[str, Any] | None) -> Condition | None:
    """The filter as one condition; None when it asks for nothing.

    A key is a metadata key (nested ones with dots: `"author.name"`), or "tenant", or "$and", "$or" (lists of filters),
    "$not" (a filter), "$ids" (a list of `Page.id`). "source" matches the full path or the file name. A value is what
    the field must be, a list of what it may be, None for a field that is not set, or a dict of operators: eq, ne, in,
    nin, gte, gt, lte, lt, exists (each also with a "$" before it; "any" is in, "not" is ne or nin). Bounds may be ISO
    dates.

    >>> parse_filter({"doc_id": "a"})
    Match(key='metadata.doc_id', values=('a',))
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
    return _all([_parse_item(key, value) for key, value in filter.items()])


def both(first: Condition | None, second: Condition | None) -> Condition | None:
    """A condition that holds where both hold; None is one that always does."""
    return _all([condition for condition in (first, second) if condition is not None])


def path_of(key: str) -> str:
    """Where a filter key lies in the payload.

    >>> path_of("author.name"), path_of("tenant"), path_of("my key")
    ('metadata.author.name', 'visrag.tenant', 'metadata."my key"')
    """
    if key in _OWN_PATHS:
        return _OWN_PATHS[key]
    parts = storable(key).removeprefix("metadata.").split(".")
    if not all(parts) or any('"' in part or "\\" in part for part in parts):
        raise FilterError(
            f"The filter key {_short(key)} cannot be a metadata key: no part may be empty or hold a quote or backslash."
        )
    return ".".join(["metadata", *(part if _PLAIN.fullmatch(part) else f'"{part}"' for part in parts)])


def _parse_item(key: Any, value: Any) -> Condition:
    if not isinstance(key, str):
        raise FilterError(f"Filter keys are metadata keys (strings), not {_short(key)}.")
    if key in ("$and", "$or"):
        if not isinstance(value, (list, tuple)) or not value:
            raise FilterError(f"{key} takes a list of at least one filter, not {_short(value)}.")
        parts = tuple(part for part in map(parse_filter, value) if part is not None)
        return All(parts) if key == "$and" or len(parts) < len(value) else Either(parts)
    if key == "$not":
        return Not(parse_filter(value) or All(()))
    if key == "$ids":
        return Ids(_ids(value))
    if key.startswith("$"):
        raise FilterError(f"Unknown operator {key!r}; around filters there are $and, $or, $not and $ids.")
    if isinstance(value, Mapping):
        return _parse_operators(key, value)
    return _equal(key, value)


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
        if name not in _OPERATORS:
            raise FilterError(f"Unknown operator {operator!r} on {key!r}; there are {', '.join(_OPERATORS)}.")
        if name in _RANGE:
            bounds[name] = value
        elif name in ("eq", "in", "any"):
            found.append(_equal(key, value))
        elif name == "exists":
            found.append(Not(Empty(path_of(key))) if value else Empty(path_of(key)))
        else:
            found.append(Not(_equal(key, value)))
    if bounds:
        found.append(_range(key, bounds))
    return _all(found) or All(())


def _equal(key: str, value: Any) -> Condition:
    path = path_of(key)
    if value is None:
        return Empty(path)
    values = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    floats = [v for v in values if isinstance(v, float) and not v.is_integer()]
    exact = tuple(_value(key, v) for v in values if not (isinstance(v, float) and not v.is_integer()))
    options: list[Condition] = [Match(path, exact)] if exact or not floats else []
    options += [_range(key, {"gte": v, "lte": v}) for v in floats]
    return options[0] if len(options) == 1 else Either(tuple(options))


def _value(key: str, value: Any) -> Value:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if hasattr(value, "__fspath__"):
        value = str(value)
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    raise FilterError(
        f"The filter on {key!r} has {_short(value)}; a field can be a string, a number (64 bits) or true/false."
    )


def _range(key: str, bounds: Mapping[str, Any]) -> Range:
    texts = {n: v.isoformat() if isinstance(v, datetime.date) else v for n, v in bounds.items()}
    if all(isinstance(v, str) for v in texts.values()):
        for text in texts.values():
            _check_date(key, text)
        return Range(path_of(key), texts, dates=True)
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
        datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as err:
        raise FilterError(
            f"The bound {text!r} on {key!r} is neither a number nor a date such as '2024-05-31'."
        ) from err


def _all(conditions: list[Condition]) -> Condition | None:
    if len(conditions) == 1:
        return conditions[0]
    return All(tuple(conditions)) if conditions else None


def storable(text: str) -> str:
    """The text in characters that every engine can keep: half surrogates are written out.

    >>> storable("caf\\udce9")
    'caf\\\\udce9'
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
