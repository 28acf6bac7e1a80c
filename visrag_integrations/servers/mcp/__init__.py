"""An MCP server over one index: agents search it, look at its pages and ask it. Names are resolved when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.servers.mcp.http_app import create_http_app
    from visrag_integrations.servers.mcp.server import create_mcp_server

_HOMES = {"create_http_app": "http_app", "create_mcp_server": "server"}

__all__ = ["create_http_app", "create_mcp_server"]


def _check_extra() -> None:
    try:
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("mcp 2.0 or later", "mcp") from err


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name, _check_extra)


def __dir__() -> list[str]:
    return list(__all__)
