"""What stands before Gradio's server: only the routes the page needs, a password, limits, and headers.

Gradio serves much more than this page uses: files by their path, a proxy, an API with documentation. None of it is
reached through here, so nothing has to be trusted to refuse it. Pictures are part of the page's own messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from typing import Any
from urllib.parse import parse_qs

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "visrag-demo"
UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""What a browser on this machine calls it."""

_PAGES = {
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(JOIN, "/gradio_api/queue/data", "/gradio_api/cancel"),
    *(UPLOAD, "/gradio_api/upload_progress", "/gradio_api/startup-events", "/gradio_api/app_id"),
}
_FOLDERS = ("/assets/", "/static/", "/gradio_api/heartbeat/")
_OPEN = {"/gradio_api/startup-events"}  # Gradio calls it itself, once, before anybody can be there
_BODY = 1 << 20  # bytes of a request that is no upload
_LOGIN_BODY = 4096
_TRIES = 4  # passwords that are looked at in one second

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


@dataclass(frozen=True)
class GateSettings:
    """Who may come in with how much.

    Attributes:
        room: How many bytes may still be uploaded.
        upload_bytes: The most one upload may have, all its files together.
        password: What has to be typed first; None lets everybody in.
        hosts: The names under which the server may be called; None is any. A web page elsewhere can make its own name
            mean this machine, so without a password only names nobody else can have are safe.
    """

    room: Callable[[], int]
    upload_bytes: int
    password: str | None = field(default=None, repr=False)
    hosts: Collection[str] | None = None


class Gate:
    """The ASGI middleware."""

    def __init__(self, app: App, settings: GateSettings) -> None:
        self._app, self._settings = app, settings
        self._token = secrets.token_urlsafe(32)
        self._trying = asyncio.Semaphore(_TRIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what has to be refused, and pass on the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        send = _with_headers(send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path = str(scope["path"]).removeprefix(scope.get("root_path") or "") or "/"
        refusal = self._refusal(scope["method"], path, headers)
        if refusal is not None:
            await _answer(send, *refusal)
        elif path == "/login":
            await self._login(scope, receive, send)
        elif not self._may_enter(path, headers):
            await _answer(send, 401, _login_page() if path == "/" else "A password is needed.", html=path == "/")
        else:
            await self._pass_on(scope, receive, send, path)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason; None where there is nothing against it."""
        hosts = self._settings.hosts
        if hosts is not None and _host(headers.get("host", "")) not in hosts:
            return 421, "This demo is called by a name it does not go by."
        login = path == "/login" and self._settings.password is not None
        if not login and path not in _PAGES and not path.startswith(_FOLDERS):
            return 404, "There is no such page."
        if method not in {"GET", "HEAD", "POST"}:
            return 405, "Only GET, HEAD and POST are understood."
        if method == "POST" and headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
            return 403, "Another web site may not use this one."
        return None

    def _may_enter(self, path: str, headers: dict[str, str]) -> bool:
        if self._settings.password is None or path in _OPEN:
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and _equal(cookie.value, self._token)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """To Gradio, with no more body than is allowed."""
        limit, reason = _BODY, "The request is too large."
        if path == UPLOAD:
            room = await asyncio.to_thread(self._settings.room)
            limit = max(0, min(self._settings.upload_bytes, room)) + _BODY  # what stands around the files
            full = room < self._settings.upload_bytes
            reason = "The demo's folder is full." if full else "The upload is too large."
        if _declared(scope) > limit:
            await _answer(send, 413, reason)
            return
        started = False
        body: Receive = _Body(receive, limit)

        async def watched(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            if path == JOIN:
                read = await _Body(receive, limit).read()
                if _names_a_url(read):
                    await _answer(watched, 403, "Nothing is fetched from elsewhere.")
                    return
                body = _replayed(read, receive)
            await self._app(scope, body, watched)
        except _TooLarge:
            if not started:
                await _answer(send, 413, reason)

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _answer(send, 401, _login_page(), html=True)
            return
        body = _Body(receive, _LOGIN_BODY)
        try:
            typed = parse_qs((await body.read()).decode("utf-8", "replace")).get("password", [""])[0]
        except _TooLarge:
            await _answer(send, 413, "The password is too long.")
            return
        async with self._trying:
            right = _equal(typed, self._settings.password or "")
            if not right:
                await asyncio.sleep(1.0)
        if not right:
            await _answer(send, 401, _login_page(wrong=True), html=True)
            return
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        cookie += "; Secure" if scope.get("scheme") == "https" else ""
        home = f"{scope.get('root_path') or ''}/"
        await _answer(send, 303, "", headers=[(b"location", home.encode()), (b"set-cookie", cookie.encode())])


class _TooLarge(Exception):
    """A body went on after its limit."""


class _Body:
    """The receiving end of a request, that counts."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left = receive, limit

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLarge
        return message

    async def read(self) -> bytes:
        """All of it."""
        parts = []
        while True:
            message = await self()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A receiving end that gives what was read, and then what comes."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replayed


def _names_a_url(body: bytes) -> bool:
    """Whether a file in a request is a URL: Gradio would fetch it, for any component, before it is asked for."""
    try:
        values = [json.loads(body)]
    except (ValueError, RecursionError):
        return True  # nothing Gradio could read either
    while values:
        value = values.pop()
        if isinstance(value, dict):
            if "://" in str(value.get("path", "")):
                return True
            values += value.values()
        elif isinstance(value, list):
            values += value
    return False


def _with_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return with_headers


async def _answer(
    send: Send, status: int, text: str, *, html: bool = False, headers: Collection[tuple[bytes, bytes]] = ()
) -> None:
    body = text.encode()
    kind = b"text/html; charset=utf-8" if html else b"text/plain; charset=utf-8"
    known = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*known, *headers]})
    await send({"type": "http.response.body", "body": body})


def _login_page(*, wrong: bool = False) -> str:
    page = resources.files("visrag_integrations.servers.demo").joinpath("login.html").read_text(encoding="utf-8")
    return page.replace("<!-- wrong -->", '<p role="alert">That is not the password.</p>' if wrong else "")


def _equal(one: str, other: str) -> bool:
    """Whether two secrets are the same; it takes as long whatever they are."""
    digests = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (one, other)]
    return hmac.compare_digest(*digests)


def _host(header: str) -> str:
    """The name in a Host header, without the port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return 0
