"""What a collection in strict mode refuses: filters without an index, exact work, and more than its limits."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from fake_qdrant.requests import Refusal
from fake_qdrant.state import FakeCollection

_ANY = ("keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid")


def check_filter(filter: Any, collection: FakeCollection, *, update: bool = False) -> None:
    """Refuse a filter on keys without an index that fits, and one that is too large."""
    leaves = list(conditions(filter))
    forbidden = "unindexed_filtering_update" if update else "unindexed_filtering_retrieve"
    if collection.limit(forbidden) is False:
        for condition in leaves:
            _check_index(condition, collection)
    most = collection.limit("filter_max_conditions")
    if most is not None and len(leaves) > most:
        raise _strict(f"Filter condition limit reached ({len(leaves)} > {most})", "Reduce the amount of conditions.")
    largest = collection.limit("condition_max_size")
    for condition in leaves:
        size = _size(condition)
        if largest is not None and size > largest:
            raise _strict(f"Condition size limit reached ({size} > {largest})", "Reduce the size of your condition.")


def check_limit(value: Any, collection: FakeCollection, name: str, shown: str) -> None:
    """Refuse a number above a limit."""
    most = collection.limit(name)
    if most is not None and value is not None and value > most:
        said = f"{value:g}" if isinstance(value, float) else str(value)
        raise _strict(
            f'Limit exceeded {said} > {most} for "{shown}"', f'Reduce the "{shown}" parameter to or below {most}.'
        )


def check_exact(exact: Any, collection: FakeCollection) -> None:
    """Refuse an exact search or count."""
    if exact and collection.limit("search_allow_exact") is False:
        raise _strict("Exact search disabled!", "Set exact=false.")


def check_timeout(query: dict[str, str], collection: FakeCollection) -> None:
    """Refuse a request that wants more time than there is for one."""
    if query.get("timeout", "").isdecimal():
        check_limit(int(query["timeout"]), collection, "max_timeout", "timeout")


def check_query(query: dict[str, Any], collection: FakeCollection) -> None:
    """Refuse what a search, or a prefetch inside it, may not ask."""
    prefetches = query.get("prefetch") or []
    for prefetch in [prefetches] if isinstance(prefetches, dict) else prefetches:
        check_query(prefetch, collection)
    params = query.get("params") or {}
    check_limit(query.get("limit"), collection, "max_query_limit", "limit")
    check_limit(params.get("hnsw_ef"), collection, "search_max_hnsw_ef", "hnsw_ef")
    oversampling = (params.get("quantization") or {}).get("oversampling")
    check_limit(oversampling, collection, "search_max_oversampling", "oversampling")
    check_exact(params.get("exact"), collection)
    check_filter(query.get("filter"), collection)
    if not prefetches and query.get("query") is not None:
        _check_full_scan(query, collection)


def check_index_count(collection: FakeCollection) -> None:
    """Refuse one payload index more than there may be."""
    most = collection.limit("max_payload_index_count")
    if most is not None and len(collection.indexes) >= most:
        raise _strict(
            f"Collection already has the maximum number of payload indices ({most})",
            "Please delete an existing index before creating a new one.",
        )


def _check_full_scan(query: dict[str, Any], collection: FakeCollection) -> None:
    """Vectors without a graph are compared one by one, which counts as exact."""
    name = query.get("using") or ""
    settings = collection.vectors.get(name)
    if settings is None or collection.limit("search_allow_exact") is not False:
        return
    if isinstance(query["query"], dict) and "nearest" not in query["query"]:
        return  # a fusion or a formula looks at what was prefetched
    hnsw = {**(collection.created.get("hnsw_config") or {}), **(settings.get("hnsw_config") or {})}
    if hnsw.get("m") != 0:
        return
    for condition in conditions(query.get("filter")):
        kind = collection.indexes.get(condition.get("key", ""), {})
        if kind.get("is_tenant") and hnsw.get("payload_m") != 0:
            return
    raise _strict(
        f"Request is forbidden on '{name}' because global vector indexing is disabled (hnsw_config.m = 0)",
        "Use tenant-specific filter, enable global vector indexing or enable strict mode `search_allow_exact`.",
    )


def conditions(filter: Any, prefix: str = "") -> Iterator[dict[str, Any]]:
    """The conditions of a filter that ask something of a page, however deep they are."""
    if not filter:
        return
    for name in ("must", "should", "must_not"):
        inner = filter.get(name) or []
        for condition in [inner] if isinstance(inner, dict) else inner:
            yield from _leaves(condition, prefix)
    for condition in (filter.get("min_should") or {}).get("conditions") or []:
        yield from _leaves(condition, prefix)


def _leaves(condition: dict[str, Any], prefix: str) -> Iterator[dict[str, Any]]:
    nested = condition.get("nested")
    if nested:
        yield from conditions(nested["filter"], f"{prefix}{nested['key']}[].")
    elif any(name in condition for name in ("must", "should", "must_not", "min_should")):
        yield from conditions(condition, prefix)
    elif prefix and "key" in condition:
        yield {**condition, "key": prefix + condition["key"]}
    else:
        yield condition


def _check_index(condition: dict[str, Any], collection: FakeCollection) -> None:
    key, wanted = _wanted(condition)
    if not key:
        return
    there = collection.indexes.get(key, {}).get("type")
    if there not in wanted:
        raise _strict(
            f'Index required but not found for "{key}" of one of the following types: [{", ".join(wanted)}]',
            "Create an index for this key or use a different filter.",
            start="Bad request: ",
        )


def _wanted(condition: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The key of a condition, and which indexes would do."""
    for name in ("is_empty", "is_null"):
        if condition.get(name):
            return condition[name]["key"], _ANY
    key = condition.get("key", "")
    match = condition.get("match") or {}
    values = _matched(match)
    if match.get("text") is not None:
        return key, ("text",)
    if values:
        return key, _kinds_of(values)
    bounds = [bound for bound in (condition.get("range") or {}).values() if bound is not None]
    if bounds:
        return key, ("datetime",) if isinstance(bounds[0], str) else ("float", "integer")
    if any(condition.get(name) for name in ("geo_radius", "geo_bounding_box", "geo_polygon")):
        return key, ("geo",)
    return key, _ANY


def _matched(match: dict[str, Any]) -> list[Any]:
    if match.get("value") is not None:
        return [match["value"]]
    return list(match.get("any") or match.get("except") or [])


def _kinds_of(values: list[Any]) -> tuple[str, ...]:
    if isinstance(values[0], bool):
        return ("bool",)
    if isinstance(values[0], int):
        return ("integer",)
    if all(_is_uuid(value) for value in values):
        return ("keyword", "uuid")
    return ("keyword",)


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _size(condition: dict[str, Any]) -> int:
    """How many values a condition lists."""
    if condition.get("has_id"):
        return len(condition["has_id"])
    return len(_matched(condition.get("match") or {}))


def _strict(error: str, help_: str, start: str = "") -> Refusal:
    return Refusal(400, f"{start}{error}. Help: {help_}")
