"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from visrag_integrations.errors import SettingError
from visrag_integrations.servers.web.asgi import CLIENT, App, Receive, Scope, Send, header, path_of, send_error

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""What a server on this machine only may be called."""
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CLIENTS_REMEMBERED = 10_000


class RequireToken:
    """Only requests with one of the tokens pass (`Authorization: Bearer ...`); all do where there is none.

    Args:
        app: What is behind.
        tokens: Compared in constant time.
        open_paths: Paths that need no token.
    """

    def __init__(self, app: App, tokens: Sequence[str], open_paths: Collection[str] = ()) -> None:
        self.app, self.open_paths = app, open_paths
        self._digests = [_digest(token) for token in check_tokens(tokens)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        place = self._place_of(header(scope, "authorization") or "")
        scope[CLIENT] = f"token {place}" if place is not None else _address(scope)
        if self._digests and place is None and path_of(scope) not in self.open_paths:
            message = "This server asks for a token. Send the header: Authorization: Bearer TOKEN"
            return await send_error(send, 401, "unauthorized", message, www_authenticate="Bearer", connection="close")
        return await self.app(scope, receive, send)

    def _place_of(self, authorization: str) -> int | None:
        """Which of the tokens was given; all are compared, so that time tells nothing."""
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        same = [hmac.compare_digest(given, digest) for digest in self._digests]
        return same.index(True) if scheme.lower() == "bearer" and any(same) else None


class AllowHosts:
    """Only requests to one of these names pass; all do where there is none.

    A page on the web can make a browser ask a server on its own machine under a name of the page's choice (DNS
    rebinding); the name then is not one of these.
    """

    def __init__(self, app: App, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, {host.lower() for host in several("hosts", hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.hosts and host_name(header(scope, "host") or "") not in self.hosts:
            message = "This server is not called that. Ask it by one of its names, or let it be started with this one."
            return await send_error(send, 421, "wrong_host", message, connection="close")
        return await self.app(scope, receive, send)


class LimitRate:
    """So many requests a second for each client on average, in bursts of up to `burst`; no limit where `rate` is None.

    Args:
        app: What is behind.
        rate: Requests a second for each token, or each address where there are no tokens.
        burst: How many may come at once.
        open_paths: Paths that are not counted.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        app: App,
        rate: float | None,
        burst: int,
        open_paths: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self.rate, self.burst, self.open_paths, self._clock = app, rate, burst, open_paths, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> (requests left, when)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.rate is not None and path_of(scope) not in self.open_paths:
            wait = self._take(scope.get(CLIENT) or _address(scope), self.rate)
            if wait > 0:
                message = f"Too many requests: {self.rate:g} a second are allowed. Try again in {wait} s."
                return await send_error(send, 429, "rate_limited", message, retry_after=str(wait), connection="close")
        return await self.app(scope, receive, send)

    def _take(self, client: str, rate: float) -> int:
        """Take one request from what the client has left; else the whole seconds until there is one."""
        now = self._clock()
        left, when = self._left.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - when) * rate)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        if len(self._left) > _CLIENTS_REMEMBERED:
            self._left.popitem(last=False)
        return 0 if allowed else math.ceil((1 - left) / rate)


def host_name(host: str) -> str:
    """The name in a Host header, without the port.

    >>> host_name("LOCALHOST:8000"), host_name("[::1]:8000"), host_name("a.example")
    ('localhost', '::1', 'a.example')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def read_tokens(path: str | Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; empty lines and those that start with # are left out.

    Raises:
        SettingError: It cannot be read, or holds none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SettingError(f"The token file {str(path)!r} cannot be read: {err}.") from err
    tokens = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not tokens:
        raise SettingError(f"The token file {str(path)!r} holds no token. Write one a line.")
    return check_tokens(tokens)


def check_tokens(tokens: Sequence[str]) -> tuple[str, ...]:
    """The tokens, if all can be sent in a header.

    Raises:
        SettingError: One is empty or has other characters than visible ASCII, or they are one text.
    """
    tokens = several("tokens", tokens)
    for place, token in enumerate(tokens, 1):
        if not _TOKEN.fullmatch(token):
            raise SettingError(
                f"Token {place} cannot be used: a token is visible ASCII characters without spaces, such as "
                'what this makes: python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
    return tokens


def several(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """The values; one text, which would be taken letter by letter, is refused, and not told: it may be a token."""
    if isinstance(values, str):
        raise SettingError(f'{name} is one string, not several; write {name}=("...",), with the comma.')
    return tuple(values)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("unknown",))[0])
