"""What the methods of a host take: one thing for each other thing, and no settings that nobody knows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from visrag_integrations.errors import SettingError


def paired(items: Iterable[Any], others: Iterable[Any] | None, name: str) -> Iterator[tuple[Any, Any]]:
    """Each item with its other, lazily; None each where there are none."""
    if others is None:
        yield from ((item, None) for item in items)
        return
    missing = object()
    for item, other in itertools.zip_longest(items, others, fillvalue=missing):
        if item is missing or other is missing:
            raise SettingError(f"There must be one id and one metadata for each of the {name}; their numbers differ.")
        yield item, other


def refuse_unknown(settings: dict[str, Any]) -> None:
    if settings:
        raise SettingError(f"Unknown settings: {', '.join(sorted(settings))}. See the method's arguments.")
