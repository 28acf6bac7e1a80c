"""A filter on a key without an index reads every page: said once, with what to type, where there are many."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from visrag_integrations.store import conditions
from visrag_integrations.store.conditions import Condition
from visrag_integrations.store.engine import FOLDER_INDEXES, TENANT, Engine
from visrag_integrations.store.indexed import indexed_paths
from visrag_integrations.store.shown import spellings

logger = logging.getLogger(__name__)
"""The command line, where other warnings are silent, shows these."""

MANY = 20_000
"""Pages from which it is said. So many are read in a twentieth of a second; an index takes five times that to make."""
_told: set[tuple[str, str]] = set()


def note_unindexed(engine: Engine, condition: Condition, indexed: Mapping[str, str]) -> None:
    """Log which keys of a filter have no index, once in a process for each; nothing on a server, which may have others.

    Args:
        engine: Of the collection.
        condition: The filter, as it was read.
        indexed: The keys that were declared, and as what.
    """
    if engine.is_shared:
        return
    paths = {*indexed_paths(indexed), *FOLDER_INDEXES, TENANT}
    missing: list[tuple[str, str]] = []
    for path, kind in _fields_of(condition):
        has_index = bool(paths & set(spellings(path, {})))
        if not has_index and (engine.where, path) not in _told:
            missing.append((path, kind))
    if not missing:
        return
    count = engine.count(None)
    if count < MANY:
        return
    _told.update((engine.where, path) for path, _ in missing)
    fields = {path.removeprefix("metadata.").replace('"', ""): kind for path, kind in missing}
    logger.warning(
        "%s: %s no index, so that each search with this filter reads all %s pages. To make one, once: "
        "QdrantPageStore(..., indexed_fields=%s).prepare(embedder)",
        engine.where,
        " and ".join(map(repr, fields)) + (" has" if len(fields) == 1 else " have"),
        f"{count:,}",
        fields,
    )


def _fields_of(condition: Condition) -> Iterator[tuple[str, str]]:
    """The metadata paths that a filter compares, and what each would be indexed as."""
    match condition:
        case conditions.FieldMatch(key, values) if _is_users(key) and values:
            yield key, _kind_of(values[0])
        case conditions.Range(key, bounds, dates) if _is_users(key):
            yield key, "datetime" if dates else _kind_of_range(bounds)
        case conditions.Not(inner):
            yield from _fields_of(inner)
        case conditions.All(parts) | conditions.Either(parts):
            for part in parts:
                yield from _fields_of(part)


def _is_users(path: str) -> bool:
    """Whether it is a metadata key that can be declared; "tenant" has an index as what it usually is."""
    return path.startswith("metadata.") and path != "metadata.tenant"


def _kind_of_range(bounds: Mapping[str, object]) -> str:
    """A whole number that is looked for comes as the range from it to itself."""
    number = bounds.get("gte")
    if isinstance(number, int) and number == bounds.get("lte"):
        return "integer"
    return "float"


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    return "keyword"
