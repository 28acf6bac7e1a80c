"""The servers of UltraRAG's pipelines on this library: `retriever`, `generation`, `corpus`, `custom`; over stdio.

UltraRAG starts `DIR/retriever/src/retriever.py` with its own Python; that file starts this one, which has this library:
`python -m visrag_integrations.servers.ultrarag retriever DIR`. `visrag ultrarag init DIR` writes the folders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError
from visrag_integrations.lazy import lazy_attribute

if TYPE_CHECKING:
    from visrag_integrations.servers.ultrarag.folders import write_folders
    from visrag_integrations.servers.ultrarag.server import create_server

_HOMES = {"create_server": "server", "write_folders": "folders"}

__all__ = ["create_server", "write_folders"]


def _check_extra() -> None:
    try:
        import mcp.server.mcpserver  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as err:
        raise MissingExtraError("What UltraRAG's servers need (mcp 2.3 or later, PyYAML)", "ultrarag") from err


def __getattr__(name: str) -> Any:
    return lazy_attribute(__name__, _HOMES, name, _check_extra)


def __dir__() -> list[str]:
    return list(__all__)
