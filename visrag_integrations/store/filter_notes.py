"""Why a filter fits no page: the key or value that is unknown here, and the nearest that is known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from visrag_integrations.store.conditions import Condition
from visrag_integrations.store.engine import TENANT, Engine
from visrag_integrations.store.json_values import to_plain
from visrag_integrations.store.payload import OWN_KEYS, source_keys

Show = Callable[[str], str]

# Pages whose metadata is looked at. It bounds what a filter that finds nothing costs (a thousand payloads without their
# texts); in a larger collection the note says that it has not seen every page.
LOOKED_AT = 1000
_KEYS_NAMED = 12
_DEPTH = 3  # of nested metadata whose keys are named with dots


def note_on(filter: Mapping[str, Any], engine: Engine, within: Condition | None, show: Show = str) -> str:
    """What of the filter no page has, in a sentence or two.

    Args:
        filter: That found nothing.
        engine: Of the collection.
        within: The pages that whoever asked may know of.
        show: How a text of a page's metadata is written in the note.
    """
    records = islice(engine.scroll(within, ("metadata", "visrag.given", "visrag.given_id", TENANT)), LOOKED_AT)
    pages = [_shown_values(record.payload) for record in records]
    if not pages:
        return "There is no page to search."
    known: dict[str, list[Any]] = {}
    for page in pages:
        for key, values in page.items():
            known.setdefault(key, []).extend(values)
    few = "No page" if len(pages) < LOOKED_AT else f"None of the {LOOKED_AT:,} pages looked at"
    notes: list[str] = []
    for key, operators in _asked(filter):
        note = _note_on_key(key, operators, known, few, show)
        if note and note not in notes:
            notes.append(note)
    return " ".join(notes) or f"{few} fits all of the filter together, though each key and value is there."


def _shown_values(payload: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values that one page shows, by key; nested keys with dots."""
    own = payload.get("visrag") or {}
    metadata = payload.get("metadata") or {}
    shown = {key: value for key, value in metadata.items() if key not in OWN_KEYS}
    if own.get("given_id"):
        shown |= own.get("given") or {}
    else:
        sources = metadata.get("sources") or [metadata.get("source") or ""]
        shown |= {"doc_id": metadata.get("doc_id"), "number": metadata.get("number"), "source": sources}
    if own.get("tenant"):
        shown.setdefault("tenant", own["tenant"])
    return dict(_flat(shown, "", _DEPTH))


def _flat(metadata: Mapping[str, Any], before: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    for name, value in metadata.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping) and depth > 1:
            yield from _flat(value, f"{key}.", depth - 1)
        elif isinstance(value, list):
            yield key, value
        elif value is not None:
            yield key, [value]


def _asked(filter: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that the filter wants to have some value, with the operators that want it."""
    if not isinstance(filter, Mapping):
        return
    for key, value in filter.items():
        if key in ("$and", "$or"):
            for each in value:
                yield from _asked(each)
        elif key == "$metadata":
            yield from _asked(value)
        elif not key.startswith("$"):
            operators = value if isinstance(value, Mapping) else {"eq": value}
            named = {str(name).removeprefix("$"): wanted for name, wanted in operators.items()}
            # What must not be so, or not be there, is no reason that nothing is found.
            wanting = {name: wanted for name, wanted in named.items() if name not in ("ne", "nin", "not", "exists")}
            if named.get("exists"):
                wanting["exists"] = True
            if wanting.get("eq", "") is not None:
                yield key.removeprefix("metadata."), wanting


def _note_on_key(key: str, operators: Mapping[str, Any], known: Mapping[str, list[Any]], few: str, show: Show) -> str:
    """What is unknown of this key; "" where nothing is."""
    if not operators:
        return ""
    within = [name for name in known if name.startswith(f"{key}.")]
    if key not in known and not within:
        keys = sorted(known, key=lambda name: (-len(known[name]), name))[:_KEYS_NAMED]
        note = f"{few} has the key {key!r}; keys here: {', '.join(keys)}."
        near = difflib.get_close_matches(key, list(known), 1)
        if near:
            note += f" The nearest is {near[0]!r}."
        return note
    there = known.get(key, [])
    for name in ("eq", "in", "any"):
        if name in operators:
            return _note_on_values(key, operators[name], there, few, show)
    bounds = {name: to_plain(value) for name, value in operators.items() if name != "exists"}
    if bounds and not any(_is_within(value, bounds) for value in there):
        return f"{few} has {key!r} in that range{_extent(there, show)}."
    return ""


def _note_on_values(key: str, wanted: Any, there: list[Any], few: str, show: Show) -> str:
    values = [to_plain(value) for value in _listed(wanted)]
    names = there
    if key in ("source", "sources"):
        names = source_keys(str(value) for value in there)
    if not values or any(_same(value, name) for value in values for name in names):
        return ""
    asked = " or ".join(map(repr, values[:3]))
    near = _nearest(str(values[0]), names)
    if near is None:
        return f"{few} has {key!r} = {asked}."
    return f"{few} has {key!r} = {asked}; the nearest is {show(near)!r}."


def _listed(wanted: Any) -> Iterable[Any]:
    if isinstance(wanted, (list, tuple, set, frozenset)):
        return wanted
    return [wanted]


def _same(one: Any, other: Any) -> bool:
    """Equal, and a number only to a number: True is no 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _nearest(wanted: str, there: Iterable[Any]) -> str | None:
    """The most alike text or number; a name that begins like it before others."""
    names = list(dict.fromkeys(str(value) for value in there))
    lowered = {name.casefold(): name for name in reversed(names)}
    begins = [name for name in names if name.casefold().startswith(wanted.casefold())]
    if begins:
        return min(begins, key=len)
    near = difflib.get_close_matches(wanted.casefold(), list(lowered), 1)
    return lowered[near[0]] if near else None


def _is_within(value: Any, bounds: Mapping[str, Any]) -> bool:
    try:
        return all(
            {"gte": value >= bound, "gt": value > bound, "lte": value <= bound, "lt": value < bound}[name]
            for name, bound in bounds.items()
        )
    except (TypeError, KeyError):
        return False  # a text beside numbers


def _extent(there: list[Any], show: Show) -> str:
    """From where to where the values go."""
    numbers = [value for value in there if isinstance(value, (int, float)) and not isinstance(value, bool)]
    texts = [value for value in there if isinstance(value, str)]
    if numbers:
        return f"; here it goes from {min(numbers)} to {max(numbers)}"
    if texts:
        return f"; here it goes from {show(min(texts))!r} to {show(max(texts))!r}"
    return ""
