"""Two metadata filters as one, for every room that narrows a search: retriever and call, ids and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visrag_integrations.errors import SettingError


def join_filters(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """One filter that asks for everything either asks for; None where neither asks for anything.

    >>> join_filters({"source": "tax.pdf"}, {"number": 2})
    {'source': 'tax.pdf', 'number': 2}
    >>> join_filters({"$or": [{"year": 2001}, {"year": 2002}]}, {"$or": [{"page": 1}, {"page": 2}]})
    {'$and': [{'$or': [{'year': 2001}, {'year': 2002}]}, {'$or': [{'page': 1}, {'page': 2}]}]}

    Args:
        first: The retriever's filter, where one is joined with that of a call.
        second: The other one. Either may be a filter object of the engine's own, which only that engine can read.

    Raises:
        SettingError: Both have the same metadata key with different values.
    """
    if not first or not second:
        return first or second
    if not all(isinstance(each, Mapping) for each in (first, second)):
        return {"$and": [first, second]}  # an engine's own filter object has no keys to merge
    joined = dict(first)
    beside: dict[str, Any] = {}
    for key, value in second.items():
        if key not in joined or joined[key] == value:
            joined[key] = value
        elif key == "$and" and isinstance(joined[key], list) and isinstance(value, list):
            joined[key] = [*joined[key], *value]
        elif str(key).startswith("$"):
            beside[key] = value  # two lists of ids or of alternatives are no contradiction: both must hold
        else:
            raise SettingError(
                f"The retriever's filter asks for {key!r}={joined[key]!r} and this call for {value!r}. "
                "Use a retriever without that key, or leave it out of the call."
            )
    if not beside:
        return joined
    return {"$and": [joined, beside]}
