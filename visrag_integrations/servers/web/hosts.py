"""By which name a request calls the server, and which names are this machine's own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from visrag_integrations.servers.web.access import several
from visrag_integrations.servers.web.asgi import App, Receive, Scope, Send, header_values, send_error

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine that nobody else can have. A server without a token or password answers to these only."""

# RFC 9110, section 7.2: a name or an IPv4 address, or an IPv6 address in brackets; then perhaps a port. Nothing else
# may stand there: no user before an @, and nothing between a bracket and the port.
_HOST = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]+)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")


def host_name(host: str) -> str | None:
    """The name in a Host header, lower case and without the port; None where it is not one name.

    >>> host_name("LOCALHOST:8000"), host_name("[::1]:8000"), host_name("a.example")
    ('localhost', '::1', 'a.example')
    >>> host_name("[::1].evil.com"), host_name("localhost@evil.com"), host_name("localhost, evil.com"), host_name("")
    (None, None, None, None)
    """
    written = _HOST.fullmatch(host)
    if written is None:
        return None
    if written["name"] is not None:
        return written["name"].lower()
    return _ipv6(written["ipv6"])


def host_of(scope: Scope) -> str | None:
    """The one name by which a request calls the server; None where it gives none, several, or something else."""
    hosts = header_values(scope, "host")
    if len(hosts) != 1:
        return None
    return host_name(hosts[0])


def allowed_names(hosts: Collection[str]) -> frozenset[str]:
    """The names a server may be called by, as `host_of` gives them; IPv6 addresses may be given in brackets or without.

    >>> sorted(allowed_names(("Localhost", "[::1]", "0:0::1")))
    ['::1', 'localhost']
    """
    names = set()
    for host in several("hosts", hosts):
        plain = host.lower().removeprefix("[").removesuffix("]")
        names.add(_ipv6(plain) or plain)
    return frozenset(names)


def bracketed(host: str) -> str:
    """A name as it stands in a URL.

    >>> bracketed("::1"), bracketed("localhost")
    ('[::1]', 'localhost')
    """
    return f"[{host}]" if ":" in host else host


def _ipv6(address: str) -> str | None:
    """An IPv6 address in its one shortest form; None where it is none."""
    try:
        return ipaddress.IPv6Address(address).compressed
    except ValueError:
        return None


class AllowHosts:
    """Only requests to one of these names pass; all do where there is none.

    A page on the web can make a browser ask a server on its own machine under a name of the page's choice (DNS
    rebinding); the name then is not one of these.
    """

    def __init__(self, app: App, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, allowed_names(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.hosts and host_of(scope) not in self.hosts:
            message = "This server is not called that. Ask it by one of its names, or let it be started with this one."
            return await send_error(send, 421, "wrong_host", message, connection="close")
        return await self.app(scope, receive, send)
