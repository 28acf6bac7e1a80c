"""An HTTP server over one index: search, answers, page pictures. Names are resolved when they are asked for."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.servers.http.app import create_app
    from visrag_integrations.servers.http.settings import ServeSettings

_HOMES = {"ServeSettings": "settings", "create_app": "app"}

__all__ = ["ServeSettings", "create_app"]


def _check_extra() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "serve")


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name, _check_extra)


def __dir__() -> list[str]:
    return list(__all__)
