"""What one object has opened for itself, so that its `close` can close this and nothing that was given to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.shared import Handle

Opened = TypeVar("Opened")


class OpenedResources:
    """Handles on shared models, opened at first use, and stores.

    It is no part of the value of the object that has it: two objects that differ only in what they have opened are
    equal, and a copy made by pickle begins with nothing open.
    """

    def __init__(self) -> None:
        self._models: dict[str, Any] = {}
        self._others: list[Any] = []

    def model(self, load: Callable[..., Any], name: str | Path, **settings: Any) -> Any:
        """The handle on this shared model; opened now if it was not, or was closed.

        Args:
            load: `load_embedder` or `load_generator`.
            name: What it takes.
            **settings: Those of the model.
        """
        key = repr((str(name), sorted(settings.items())))
        if key not in self._models:
            # Two threads may both come here. The handle of the slower one is dropped, which ends its hold.
            self._models.setdefault(key, load(name, shared=True, **settings))
        return self._models[key]

    def keep(self, resource: Opened) -> Opened:
        """Close it with the rest."""
        self._others.append(resource)
        return resource

    def close(self) -> None:
        """Close all of it, what was opened last first. A model that is asked for later is opened again."""
        while self._others:
            close(self._others.pop())
        while self._models:
            _, handle = self._models.popitem()
            close(handle)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenedResources)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenedResources, ()


def model_behind(value: Any) -> Any:
    """The model that a handle holds; anything else as it is.

    Raises:
        SettingError: The handle was closed.
    """
    if isinstance(value, Handle):
        return value._open()
    return value
