"""A web page to try it out: upload documents, ask, see the pages with the evidence outlined. Needs the extra `demo`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import MissingExtraError

if TYPE_CHECKING:
    from visrag_integrations.servers.demo.build import build_demo
    from visrag_integrations.servers.demo.knowledge_bases import KnowledgeBases
    from visrag_integrations.servers.demo.visitor_limits import Limits

_HOMES = {"KnowledgeBases": "knowledge_bases", "Limits": "visitor_limits", "build_demo": "build"}

__all__ = ["KnowledgeBases", "Limits", "build_demo"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as err:
        if (err.name or "").partition(".")[0] != "gradio":
            raise
        raise MissingExtraError("Gradio", "demo") from err
