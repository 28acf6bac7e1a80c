"""What those who listen to callbacks and events are told about a model."""

from __future__ import annotations

from typing import Any


def payload_of(model: Any) -> dict[str, Any]:
    """The model's own description, without secrets; older versions of LlamaIndex have none, and get its names.

    >>> from types import SimpleNamespace
    >>> payload_of(SimpleNamespace(class_name=lambda: "Mine", model_name="small"))
    {'class_name': 'Mine', 'model_name': 'small'}
    """
    if hasattr(model, "to_payload"):
        described: dict[str, Any] = model.to_payload()
        return described
    name = getattr(model, "model_name", None) or getattr(model, "model", "unknown")
    return {"class_name": model.class_name(), "model_name": str(name)}
