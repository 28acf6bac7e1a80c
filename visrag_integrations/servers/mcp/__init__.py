"""An MCP server over one index: agents search it, look at its pages and ask it. Names are resolved when asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from visrag_integrations.servers.mcp.http_app import create_http_app
    from visrag_integrations.servers.mcp.server import create_mcp_server

_HOMES = {"create_http_app": "http_app", "create_mcp_server": "server"}

__all__ = ["create_http_app", "create_mcp_server"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("mcp 2.0 or later", "mcp") from err
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
