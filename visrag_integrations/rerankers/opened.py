"""Rerankers that an object of a host loads for itself, at first use."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from visrag_integrations.rerankers.cross_encoder import CrossEncoderReranker


class OpenedRerankers:
    """Those of one object, by their settings; loaded once each, and closed by it.

    It is no part of the value of the object that has it: two objects that differ only in what they have loaded are
    equal, and a copy made by pickle begins with nothing loaded.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, CrossEncoderReranker] = {}
        self._lock = threading.Lock()

    def get(self, model: Any, settings: dict[str, Any]) -> CrossEncoderReranker:
        """The reranker itself, where the model is one; else the one of these settings, loaded now if it was not."""
        if isinstance(model, CrossEncoderReranker):
            return model
        # A model that is loaded already has no name that would tell it from another.
        name = str(model) if isinstance(model, (str, Path)) else f"{type(model).__name__} {id(model)}"
        key = repr((name, sorted(settings.items())))
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = CrossEncoderReranker(model, **settings)
            return self._loaded[key]

    def close(self) -> None:
        """Close all of them; what was given stays open. One that is asked for later is loaded again."""
        with self._lock:
            loaded, self._loaded = self._loaded, {}
        for reranker in loaded.values():
            reranker.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenedRerankers)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return OpenedRerankers, ()
