"""What a filter sees: the value that a page's metadata shows under a key, whoever wrote it, and equal numbers as equal.

A condition that `filters.parse_filter` read names payload fields as the core's own pages have them. A page that a host
named (it has a `visrag.given_id`) may show others under the same keys; they are kept in `visrag.given`:

    {"doc_id": "D7"}   a page of the core's own: metadata.doc_id    a host's page: visrag.given.doc_id
    {"number": 1}      metadata.number                              visrag.given.number
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from visrag_integrations.store.conditions import (
    All,
    Condition,
    Either,
    Empty,
    FieldMatch,
    Not,
    Range,
)
from visrag_integrations.store.engine import KEYWORDS, TENANT
from visrag_integrations.store.filter_values import is_date
from visrag_integrations.store.filters import DOCUMENT, SHOWN_TENANT
from visrag_integrations.store.payload import OWN_KEYS

FieldKind = Literal["keyword", "integer", "float", "datetime", "bool"]
# From here on floats do not hold every whole number, so that a range takes neighbours for equal.
_EXACT = 2**53
_SOURCE_KEYS = "visrag.source_keys"
_USERS_TENANT = "metadata.tenant"
_NO_HOST = Empty("visrag.given_id")
_NO_TENANT = Either((FieldMatch(TENANT, ("",)), Empty(TENANT)))
# What the store itself writes there are integers, so that no range has to be asked.
_OUR_INTEGERS = frozenset({"metadata.number", "metadata.page"})
# Indexed as floats, so that they are compared by ranges: see `engine.SERVER_INDEXES`.
_HOSTS_NUMBERS = {"visrag.given.number": "float", "visrag.given.page": "float"}
# Spellings of a key with dots: 2 ** 3 for three of them. With more, only all nested and all in one are looked for.
_MAX_DOTS = 3


@dataclass(frozen=True)
class FilterView:
    """How the pages of one store are looked at.

    Attributes:
        indexed: What kind each indexed payload path was declared as.
        one_tenant: Whether the store shows one tenant only, so that "tenant" can only be a key of the user's own.
    """

    indexed: Mapping[str, str] = field(default_factory=dict)
    one_tenant: bool = False


def as_shown(condition: Condition, view: FilterView) -> Condition:
    """The condition on what each page shows under the keys.

    >>> as_shown(FieldMatch("metadata.author", ("Ada",)), FilterView())
    FieldMatch(key='metadata.author', values=('Ada',))
    """
    match condition:
        case All(parts):
            return All(tuple(as_shown(part, view) for part in parts))
        case Either(parts):
            return Either(tuple(as_shown(part, view) for part in parts))
        case Not(inner):
            return Not(as_shown(inner, view))
        case FieldMatch() | Range() | Empty():
            return _field_as_shown(condition, view)
        case _:
            return condition


def _field_as_shown(leaf: FieldMatch | Range | Empty, view: FilterView) -> Condition:
    """A condition on one key, on every kind of page."""
    key = leaf.key
    if key == DOCUMENT:
        return at_path(leaf, "metadata.doc_id", view)
    if key in (TENANT, SHOWN_TENANT):
        return _tenant(leaf, view)
    if key == _SOURCE_KEYS:
        return _source(leaf, view)
    name = key.removeprefix("metadata.")
    if name == "sources":
        return _by_writer(leaf, _SOURCE_KEYS, "visrag.given.sources", view)  # file names count here too
    if name in OWN_KEYS:
        return _by_writer(leaf, key, f"visrag.given.{name}", view)
    return _somewhere(leaf, spellings(key, view.indexed), view)


def _by_writer(leaf: FieldMatch | Range | Empty, ours: str, given: str, view: FilterView) -> Condition:
    """At one place of the core's own pages, at another of a host's."""
    own_pages = All((_NO_HOST, at_path(leaf, ours, view)))
    hosts_pages = at_path(leaf, given, view)
    if isinstance(leaf, Empty):  # the core's own pages have nothing there either
        hosts_pages = All((Not(_NO_HOST), hosts_pages))
    return Either((own_pages, hosts_pages))


def _source(leaf: FieldMatch | Range | Empty, view: FilterView) -> Condition:
    """A source is found by its path and by its file name; of a host's page, where it shows a source at all."""
    own_pages = All((_NO_HOST, at_path(leaf, _SOURCE_KEYS, view)))
    shown = "visrag.given.source"
    if isinstance(leaf, Empty):
        return Either((own_pages, All((Not(_NO_HOST), Empty(shown)))))
    by_name = All((Not(Empty(shown)), at_path(leaf, _SOURCE_KEYS, view)))
    return Either((own_pages, at_path(leaf, shown, view), by_name))


def _tenant(leaf: FieldMatch | Range | Empty, view: FilterView) -> Condition:
    """`Page.tenant`, or a metadata key of the user's own that has that name.

    In a store of one tenant the key can only be the user's. In one of several it means `Page.tenant` wherever a page
    has one: whoever writes metadata must not get their pages into another tenant's searches. Hosts show the user's key
    only, so there it is that of a page which a host named.
    """
    users = at_path(leaf, _USERS_TENANT, view)
    pages = at_path(leaf, TENANT, view)
    if view.one_tenant:
        without = All((_NO_HOST, Empty(_USERS_TENANT)))
        return Either((All((Not(without), users)), All((without, pages))))
    by_page = Either((All((Not(_NO_TENANT), pages)), All((_NO_TENANT, users))))
    if leaf.key == TENANT:
        return by_page
    return Either((All((Not(_NO_HOST), users)), All((_NO_HOST, by_page))))


def _somewhere(leaf: FieldMatch | Range | Empty, paths: list[str], view: FilterView) -> Condition:
    """At one of the places; empty means at none of them."""
    found = [at_path(leaf, path, view) for path in paths]
    if len(found) == 1:
        return found[0]
    if isinstance(leaf, Empty):
        return All(tuple(found))
    return Either(tuple(found))


def spellings(path: str, indexed: Mapping[str, str]) -> list[str]:
    """Where a key with dots may lie: nested, or as one key that has dots.

    >>> spellings("metadata.a.b", {})
    ['metadata.a.b', 'metadata."a.b"']
    """
    parts = re.findall(r'"[^"]*"|[^."]+', path)
    dots = len(parts) - 2  # the first part is "metadata"
    if path in KEYWORDS or dots < 1 or "[" in path:
        return [path]
    if dots > _MAX_DOTS:
        return [path, _joined(parts, (1 << dots) - 1)]
    # Each dot is a step into a dict, or a letter of the key: one bit each.
    found = [_joined(parts, letters) for letters in range(1 << dots)]
    declared = [spelled for spelled in found if spelled in indexed]
    return declared or found


def _joined(parts: list[str], letters: int) -> str:
    """The path in which those dots are letters whose bit is set."""
    groups = [[parts[1]]]
    for place, part in enumerate(parts[2:]):
        if letters >> place & 1:
            groups[-1].append(part)
        else:
            groups.append([part])
    path = parts[0]
    for group in groups:
        if len(group) == 1:
            path += f".{group[0]}"
        else:
            path += '."' + ".".join(part.strip('"') for part in group) + '"'
    return path


def at_path(leaf: FieldMatch | Range | Empty, path: str, view: FilterView) -> Condition:
    """The condition on one payload path, as fields of its kind are compared."""
    kind = view.indexed.get(path) or _HOSTS_NUMBERS.get(path)
    match leaf:
        case Empty():
            return Empty(path)
        case Range(_, bounds, dates):
            if dates and kind == "keyword":
                return FieldMatch(path, ())  # texts are matched, and the text is asked for beside it
            return Range(path, bounds, dates)
        case FieldMatch(_, values):
            return _match_at(path, values, kind)


def _match_at(path: str, values: tuple[str | int | bool, ...], kind: str | None) -> Condition:
    """One of the values stands there, in any way it can be written."""
    exact: list[str | int | bool] = []
    others: list[Condition] = []
    for value in values:
        if isinstance(value, bool):
            exact.append(value)
        elif isinstance(value, int):
            # Without an index a range finds integers too, and each page is read once instead of twice.
            is_found_by_range = kind is None and path not in _OUR_INTEGERS and abs(value) < _EXACT
            if kind != "float" and not is_found_by_range:
                exact.append(value)
            if kind != "integer" and path not in _OUR_INTEGERS:
                others += equal_floats(path, value)
        elif kind == "datetime" and is_date(value):
            others.append(Range(path, {"gte": value, "lte": value}, dates=True))
        else:
            exact.append(value)
    if not others:
        return FieldMatch(path, tuple(exact))
    if exact:
        others.insert(0, FieldMatch(path, tuple(exact)))
    return others[0] if len(others) == 1 else Either(tuple(others))


def equal_floats(path: str, number: int) -> list[Condition]:
    """What finds the whole number where it is stored as a float: engines match integers with integers only.

    >>> equal_floats("metadata.year", 2020)
    [Range(key='metadata.year', bounds={'gte': 2020, 'lte': 2020}, dates=False)]
    >>> equal_floats("metadata.year", 2**53 + 1)  # no float is this number
    []
    """
    if int(float(number)) != number:
        return []
    same = Range(path, {"gte": number, "lte": number})
    if abs(number) < _EXACT:
        return [same]
    # Engines compare in floats, where 2**53 and 2**53 + 1 are one number. The integers that would be taken for this
    # one (1,023 at most, just below 2**63) are left out by name.
    neighbours: list[int] = []
    for step in (-1, 1):
        other = number + step
        while float(other) == float(number) and -(2**63) <= other < 2**63:
            neighbours.append(other)
            other += step
    return [All((same, Not(FieldMatch(path, tuple(neighbours)))))]
