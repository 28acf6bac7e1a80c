"""Who may ask, and how often: secrets are compared here, and nowhere else."""

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

_TOKEN = re.compile(r"[\x21-\x7e]+")
# Without an end, whoever sends from ever new addresses would fill the memory. The client that asked longest ago is
# forgotten first, which gives it a full burst again.
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
        place = self._place_of(header(scope, "authorization"))
        if place is None:
            scope[CLIENT] = _address(scope)
        else:
            scope[CLIENT] = f"token {place}"
        if self._digests and place is None and path_of(scope) not in self.open_paths:
            message = "This server asks for a token. Send the header: Authorization: Bearer TOKEN"
            return await send_error(send, 401, "unauthorized", message, www_authenticate="Bearer", connection="close")
        return await self.app(scope, receive, send)

    def _place_of(self, authorization: str) -> int | None:
        """Which of the tokens was given; None where none was."""
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # All are compared, also after one that fits: how long it takes must not say which.
        same = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or True not in same:
            return None
        return same.index(True)


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
        # Taken out and put back, so that the order is by who asked last.
        left, when = self._left.pop(client, (float(self.burst), now))
        left = min(float(self.burst), left + (now - when) * rate)
        wait = 0
        if left >= 1:
            left -= 1
        else:
            wait = math.ceil((1 - left) / rate)
        self._left[client] = (left, now)
        if len(self._left) > _CLIENTS_REMEMBERED:
            self._left.popitem(last=False)
        return wait


def read_tokens(path: str | Path) -> tuple[str, ...]:
    """The tokens of a file, one a line; empty lines and those that start with # are left out.

    Raises:
        SettingError: It cannot be read, or holds none.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as err:
        raise SettingError(f"The token file {str(path)!r} cannot be read: {err}.") from err
    tokens = []
    for line in map(str.strip, lines):
        if line and not line.startswith("#"):
            tokens.append(line)
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


def same_secret(one: str, other: str) -> bool:
    """Whether two secrets are the same; it takes as long whatever they are.

    >>> same_secret("päss word", "päss word"), same_secret("pass word", "päss word")
    (True, False)
    """
    return hmac.compare_digest(_digest(one), _digest(other))


def several(name: str, values: Iterable[str]) -> tuple[str, ...]:
    """The values, if they are not one string.

    Raises:
        SettingError: They are one string, which would be taken letter by letter.
    """
    if isinstance(values, str):  # the message does not repeat it: it may be a token
        raise SettingError(f'{name} is one string, not several; write {name}=("...",), with the comma.')
    return tuple(values)


def _digest(token: str) -> bytes:
    # Digests are equally long, so that comparing them does not tell how long the secret is.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else "unknown"
