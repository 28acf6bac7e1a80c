"""One of the servers as an MCP server: its tools, `build`, and results as UltraRAG reads them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, TextContent

from visrag_integrations import __version__
from visrag_integrations.errors import UnknownNameError, VisRAGError
from visrag_integrations.servers.ultrarag.corpus import CorpusTools
from visrag_integrations.servers.ultrarag.custom import CustomTools
from visrag_integrations.servers.ultrarag.generation import GenerationTools
from visrag_integrations.servers.ultrarag.retriever import RetrieverTools
from visrag_integrations.servers.ultrarag.tool_table import Output, ToolSpec, read_parameters, write_server_yaml

logger = logging.getLogger(__name__)


class Tools(Protocol):
    """The tools of one server, with what they hold between calls."""

    def specs(self) -> tuple[ToolSpec, ...]: ...
    def close(self) -> None: ...


SERVERS: dict[str, Callable[[Path], Tools]] = {
    "retriever": RetrieverTools,
    "generation": GenerationTools,
    "corpus": CorpusTools,
    "custom": CustomTools,
}
"""Name -> its tools, made from the folder that `visrag ultrarag init` wrote."""


def create_server(name: str, folder: Path) -> tuple[MCPServer, Tools]:
    """The server of that name, and its tools to be closed at the end.

    Args:
        name: One of `SERVERS`.
        folder: What `visrag ultrarag init` wrote; pages that one server found, another one reads there.

    Raises:
        UnknownNameError: There is no such server.
        SettingError: Its parameter.yaml cannot be read.
    """
    if name not in SERVERS:
        raise UnknownNameError(f"There is no server {name!r} for UltraRAG; there is {', '.join(SERVERS)}.")
    # Read only to see that it can be read: the values come with the calls.
    read_parameters(folder / name / "parameter.yaml")
    tools = SERVERS[name](folder)
    specs = tools.specs()
    server = MCPServer(f"visrag {name}", version=__version__, log_level="WARNING")
    # One call at a time: a second search must not find the store half closed by a second `retriever_init`.
    turn = asyncio.Lock()
    for spec in specs:
        server.add_tool(_as_tool(spec, turn), name=spec.name, structured_output=False)

    def build(parameter_file: str) -> Output:
        """Write server.yaml beside the parameter file."""
        write_server_yaml(parameter_file, specs)
        return {}

    server.add_tool(_as_tool(ToolSpec(build, ("parameter_file",)), turn), name="build", structured_output=False)
    return server, tools


def _as_tool(spec: ToolSpec, turn: asyncio.Lock) -> Callable[..., Awaitable[CallToolResult]]:
    """The function as the SDK calls it: in a thread, its errors as texts, its result as one JSON object."""

    @functools.wraps(spec.function)
    async def tool(**arguments: Any) -> CallToolResult:
        async with turn:
            try:
                found = await asyncio.to_thread(spec.function, **arguments)
            except VisRAGError as err:
                logger.error("%s: %s", spec.name, err)
                raise ToolError(str(err)) from err
        text = json.dumps(dict(found), ensure_ascii=False)
        return CallToolResult(content=[TextContent(type="text", text=text)])

    # The SDK reads the arguments' types here; the result's is its own.
    signature = inspect.signature(spec.function, eval_str=True)
    annotations = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    tool.__signature__ = signature.replace(return_annotation=CallToolResult)  # type: ignore[attr-defined]
    tool.__annotations__ = {**annotations, "return": CallToolResult}
    return tool
