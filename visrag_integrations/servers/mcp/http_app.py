"""The MCP server over HTTP (streamable, stateless), behind the guards of `web`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp.server.transport_security import TransportSecuritySettings

from visrag_integrations.servers.web.access import RequireToken
from visrag_integrations.servers.web.asgi import App, Receive, Scope, Send, path_of, send_error
from visrag_integrations.servers.web.hosts import AllowHosts, allowed_names, bracketed
from visrag_integrations.servers.web.limits import LimitBody, LimitConcurrency, LimitTime

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

PATH = "/mcp"
# A message is a tool's name and arguments, at most a question of 4,000 characters and a filter.
_MAX_BYTES = 1024 * 1024
_BODY_SECONDS = 30.0
# Each request that runs holds one thread while it searches; what comes beyond is told to come again.
_CONCURRENCY = 64
_SECONDS = 300.0  # as much as the HTTP server gives an `/ask`: a large model reads several pages


def create_http_app(server: MCPServer, tokens: tuple[str, ...] = (), hosts: tuple[str, ...] = ()) -> App:
    """An ASGI app that answers at `/mcp`.

    Args:
        server: From `create_mcp_server`.
        tokens: A request needs one of them (`Authorization: Bearer ...`).
        hosts: Names the server may be called by, in the Host header and by web pages (Origin); none: any.
    """
    allowed_hosts: list[str] = []
    allowed_origins: list[str] = []
    for host in map(bracketed, allowed_names(hosts)):
        # The SDK compares whole headers: a name stands for itself, and ":*" for any port.
        for name in (host, f"{host}:*"):
            allowed_hosts.append(name)
            allowed_origins += [f"http://{name}", f"https://{name}"]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=bool(hosts), allowed_hosts=allowed_hosts, allowed_origins=allowed_origins
    )
    app: App = server.streamable_http_app(
        streamable_http_path=PATH, stateless_http=True, json_response=True, transport_security=security
    )
    app = LimitConcurrency(LimitTime(app, _SECONDS), _CONCURRENCY)
    app = LimitBody(_PostOnly(app), _MAX_BYTES, _BODY_SECONDS)
    return AllowHosts(RequireToken(app, tokens), hosts)


class _PostOnly:
    """Lets only POST through: to a GET the SDK answers with a stream that never ends, and there is nothing to push."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "POST":
            return await self.app(scope, receive, send)
        if path_of(scope) != PATH:
            return await send_error(send, 404, "not_found", f"There is nothing here; MCP is at {PATH}.")
        message = "This server has nothing to push and keeps no sessions; send messages with POST."
        return await send_error(send, 405, "method_not_allowed", message, allow="POST")
