"""Metadata keys that users declare: what each is indexed as, and where that is in the payload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from visrag_integrations.errors import FilterError, SettingError
from visrag_integrations.store.conditions import Either, Empty, Not
from visrag_integrations.store.engine import Engine, batches
from visrag_integrations.store.filters import path_of
from visrag_integrations.store.info import FIELD_KINDS
from visrag_integrations.store.payload import OWN_KEYS
from visrag_integrations.store.shown import spellings


def check_indexed_fields(fields: Mapping[str, str] | None) -> dict[str, str]:
    """The declared metadata keys and their kinds.

    Raises:
        SettingError: No dict, a kind that there is not, or a key that cannot be filtered by.
    """
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise SettingError(f'indexed_fields is {fields!r}; it is a dict of metadata keys such as {{"org": "keyword"}}.')
    for key, kind in fields.items():
        if kind not in FIELD_KINDS:
            raise SettingError(f"indexed_fields[{key!r}] is {kind!r}; allowed: {', '.join(FIELD_KINDS)}.")
        try:
            paths_of(key)
        except FilterError as err:
            raise SettingError(f"indexed_fields has a key that cannot be filtered by: {err}") from err
    return dict(fields)


def paths_of(key: str) -> list[str]:
    """Where in the payload a declared key may lie.

    >>> paths_of("org"), paths_of("doc_id"), paths_of("a.b")
    (['metadata.org'], ['visrag.given.doc_id'], ['metadata.a.b', 'metadata."a.b"'])
    """
    if not isinstance(key, str):
        raise FilterError(f"Metadata keys are texts, not {key!r}.")
    if key in OWN_KEYS:
        return [f"visrag.given.{key}"]  # a key of the store's own, which it indexes itself where it means its own
    if key == "tenant":
        return ["metadata.tenant"]
    return spellings(path_of(key), {})


def indexed_paths(fields: Mapping[str, str]) -> dict[str, str]:
    """Every payload path of the declared keys, and its kind.

    >>> indexed_paths({"year": "integer"})
    {'metadata.year': 'integer'}
    """
    return {path: kind for key, kind in fields.items() for path in paths_of(key)}


def make_indexes(engine: Engine, fields: Mapping[str, str], before: Mapping[str, str]) -> None:
    """Index the declared keys, and the store's own, in a collection that lacks some of them.

    Args:
        engine: Of the collection.
        fields: Everything that is declared now.
        before: What was declared before, as the collection remembers it.
    """
    engine.index_fields(indexed_paths(fields))
    for key, kind in fields.items():
        # Until the collection remembers the key, its pages may hold floats: also after a kill in between.
        if kind == "integer" and before.get(key) != kind:
            _store_whole_numbers(engine, key)


def _store_whole_numbers(engine: Engine, key: str) -> None:
    """Write 2020.0 as 2020 on the pages that are there: an index of integers has no place for floats."""
    changes: dict[str, tuple[dict[str, Any], list[str]]] = {}
    places = [Not(Empty(path)) for path in paths_of(key) if path.startswith("metadata.")]
    for record in engine.scroll(Either(tuple(places)), ("metadata",)) if places else ():
        before = record.payload.get("metadata") or {}
        after = with_whole_numbers(before, [key])
        changed = {name: value for name, value in after.items() if repr(value) != repr(before[name])}
        if changed:
            # Few different values stand on many pages: one write for each.
            changes.setdefault(repr(changed), (changed, []))[1].append(record.id)
    for changed, ids in changes.values():
        for batch in batches(ids):
            engine.set_payload(batch, changed, "metadata")


def with_whole_numbers(metadata: Mapping[str, Any], integers: Iterable[str]) -> dict[str, Any]:
    """The metadata with whole floats as integers, under these keys.

    >>> with_whole_numbers({"year": 2020.0, "price": 3.0, "a": {"b": [1.0, 1.5]}}, ["year", "a.b"])
    {'year': 2020, 'price': 3.0, 'a': {'b': [1, 1.5]}}
    """
    changed = dict(metadata)
    for key in integers:
        if key in changed:
            changed[key] = _whole(changed[key])
            continue
        top, dot, rest = key.partition(".")
        if dot and isinstance(changed.get(top), Mapping):
            changed[top] = with_whole_numbers(changed[top], [rest])
    return changed


def _whole(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value
