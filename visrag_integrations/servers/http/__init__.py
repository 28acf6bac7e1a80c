"""An HTTP server over one index: search, answers, page pictures. Names are resolved when they are asked for."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from visrag_integrations.servers.http.app import create_app
    from visrag_integrations.servers.http.settings import ServeSettings

_HOMES = {"ServeSettings": "settings", "create_app": "app"}

__all__ = ["ServeSettings", "create_app"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "serve")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
