"""What stands before Gradio's server: only the routes the page needs, a password, limits, and headers.

Gradio serves much more than this page uses: files by their path, a proxy, an API with documentation. None of it is
reached through here, so nothing has to be trusted to refuse it. Pictures are part of the page's own messages.

Names of the server, secrets and the size of bodies are checked by `servers.web`, as for the other servers. Uploads are
counted as they pass, because they are too large to be held.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs

from visrag_integrations.servers.demo.upload_names import UnknownFileError, names_of, with_paths
from visrag_integrations.servers.web.access import same_secret
from visrag_integrations.servers.web.asgi import (
    App,
    ASGIMessage,
    Receive,
    Scope,
    Send,
    TrackedSend,
    WholeAnswer,
    header,
    path_of,
    replay,
    respond,
)
from visrag_integrations.servers.web.hosts import allowed_names, host_of
from visrag_integrations.servers.web.limits import BodyTooLargeError, CountedBody, declared_length

COOKIE = "visrag-demo"
UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"

_PAGES = {
    *("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"),
    *(JOIN, "/gradio_api/queue/data", "/gradio_api/cancel"),
    *(UPLOAD, "/gradio_api/upload_progress", "/gradio_api/startup-events", "/gradio_api/app_id"),
}
_FOLDERS = ("/assets/", "/static/", "/gradio_api/heartbeat/")
_OPEN = {"/gradio_api/startup-events"}  # Gradio calls it itself, once, before anybody can be there

# Bytes of a request that is no upload. The longest one is a question (`Limits.question` characters) or the paths
# of uploaded files; the form data around the files of an upload is given as much.
_BODY = 1 << 20
_LOGIN_BODY = 4096  # bytes: one password

# A guess that is wrong waits for a second, and no more than four wait at the same time: four guesses a second, however
# many connections there are. Fewer would let a guesser keep others out for longer.
_TRIES = 4
_WRONG_SECONDS = 1.0

# Gradio's page needs inline scripts, eval and workers from blobs. Everything else comes from this server or not at all.
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
        b"img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer": with it, browsers call the origin of the page's own forms "null".
    (b"referrer-policy", b"same-origin"),
]


@dataclass(frozen=True)
class GateSettings:
    """Who may come in with how much.

    Attributes:
        room: How many bytes may still be uploaded.
        upload_bytes: The most one upload may have, all its files together.
        incoming: The folder of uploaded files; visitors never see its path.
        password: What has to be typed first; None lets everybody in.
        hosts: The names under which the server may be called; None is any. A web page elsewhere can make its own name
            mean this machine, so without a password only names that nobody else can have (`LOOPBACK`) are safe.
    """

    room: Callable[[], int]
    upload_bytes: int
    incoming: Path
    password: str | None = field(default=None, repr=False)
    hosts: Collection[str] | None = None


class Gate:
    """The ASGI middleware."""

    def __init__(self, app: App, settings: GateSettings) -> None:
        self._app, self._settings = app, settings
        self._hosts = None if settings.hosts is None else allowed_names(settings.hosts)
        self._token = secrets.token_urlsafe(32)
        self._trying = asyncio.Semaphore(_TRIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what has to be refused, and pass on the rest."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # "policy violation" of RFC 6455
            return
        send = _with_headers(send)
        path = path_of(scope)
        refusal = self._refusal(scope, path)
        if refusal is not None:
            await _send_text(send, *refusal)
        elif path == "/login":
            await self._login(scope, receive, send)
        elif self._may_enter(scope, path):
            await self._pass_on(scope, receive, send, path)
        elif path == "/":
            await _send_login_page(send)
        else:
            await _send_text(send, 401, "A password is needed.")

    def _refusal(self, scope: Scope, path: str) -> tuple[int, str] | None:
        """Status and reason; None where there is nothing against it."""
        if self._hosts is not None and host_of(scope) not in self._hosts:
            return 421, "This demo is called by a name it does not go by."
        if not self._is_page(path):
            return 404, "There is no such page."
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return 405, "Only GET, HEAD and POST are understood."
        if scope["method"] == "POST" and _is_from_elsewhere(scope):
            return 403, "Another web site may not use this one."
        return None

    def _is_page(self, path: str) -> bool:
        if path == "/login":
            return self._settings.password is not None
        return path in _PAGES or path.startswith(_FOLDERS)

    def _may_enter(self, scope: Scope, path: str) -> bool:
        if self._settings.password is None or path in _OPEN:
            return True
        try:
            cookie = SimpleCookie(header(scope, "cookie")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and same_secret(cookie.value, self._token)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """To Gradio, with no more body than is allowed."""
        limit, reason = await self._body_limit(path)
        if declared_length(scope) > limit:
            await _send_text(send, 413, reason)
            return
        answer, body = TrackedSend(send), CountedBody(receive, limit)
        try:
            if path == JOIN:
                await self._join(scope, body, receive, answer)
            elif path == UPLOAD:
                await self._upload(scope, body, answer)
            else:
                await self._app(scope, body, answer)
        except BodyTooLargeError:
            if not answer.started:
                await _send_text(send, 413, reason)

    async def _body_limit(self, path: str) -> tuple[int, str]:
        """The most bytes of a request to this path, and what to say to one that has more."""
        if path != UPLOAD:
            return _BODY, "The request is too large."
        most = self._settings.upload_bytes
        room = await asyncio.to_thread(self._settings.room)
        if room < most:
            return max(0, room) + _BODY, "The demo's folder is full."
        return most + _BODY, "The upload is too large."

    async def _join(self, scope: Scope, body: CountedBody, receive: Receive, send: Send) -> None:
        """A request for one of the page's handlers, read before Gradio sees it."""
        read = await body.read()
        if read is None:
            return  # the visitor went away
        try:
            known = with_paths(read, self._settings.incoming)
        except UnknownFileError:
            await _send_text(send, 403, "Only files that were uploaded here are taken.")
        else:
            await self._app(_of_length(scope, len(known)), replay(known, receive), send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Files for Gradio to keep; its answer names them by their paths, and ours does not."""
        answer = WholeAnswer()
        await self._app(scope, receive, answer)
        if answer.status != 200:
            # Gradio's words for what went wrong could hold a path as well.
            await _send_text(send, answer.status, "The upload failed.")
            return
        names = names_of(answer.body, self._settings.incoming)
        await respond(send, 200, names, (("content-type", "application/json"), ("cache-control", "no-store")))

    async def _login(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _send_login_page(send)
            return
        try:
            form = await CountedBody(receive, _LOGIN_BODY).read()
        except BodyTooLargeError:
            await _send_text(send, 413, "The password is too long.")
            return
        if form is None:
            return  # the visitor went away
        if not await self._is_password(form):
            await _send_login_page(send, wrong=True)
            return
        cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
        if scope.get("scheme") == "https":
            cookie += "; Secure"
        home = f"{scope.get('root_path') or ''}/"
        await _send_text(send, 303, "", headers=(("location", home), ("set-cookie", cookie)))

    async def _is_password(self, form: bytes) -> bool:
        typed = parse_qs(form.decode("utf-8", "replace")).get("password", [""])[0]
        async with self._trying:
            right = same_secret(typed, self._settings.password or "")
            if not right:
                await asyncio.sleep(_WRONG_SECONDS)
        return right


def _is_from_elsewhere(scope: Scope) -> bool:
    """Whether a browser says that another site's page sends this.

    New browsers say so in Sec-Fetch-Site; older ones name the page's origin. Programs that are no browser say neither,
    and no page can send through them.
    """
    site = header(scope, "sec-fetch-site")
    if site:
        return site not in {"none", "same-origin"}
    origin = header(scope, "origin")
    if not origin:
        return False
    return origin.lower().partition("://")[2] != header(scope, "host").lower()


def _of_length(scope: Scope, length: int) -> Scope:
    """The request, with the length that its body has now."""
    headers = [(key, value) for key, value in scope["headers"] if key.lower() != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


def _with_headers(send: Send) -> Send:
    async def with_headers(message: ASGIMessage) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return with_headers


async def _send_text(
    send: Send, status: int, text: str, *, kind: str = "text/plain", headers: Collection[tuple[str, str]] = ()
) -> None:
    known = (("content-type", f"{kind}; charset=utf-8"), ("cache-control", "no-store"))
    await respond(send, status, text.encode(), (*known, *headers))


async def _send_login_page(send: Send, *, wrong: bool = False) -> None:
    page = resources.files("visrag_integrations.servers.demo").joinpath("login.html").read_text(encoding="utf-8")
    if wrong:
        page = page.replace("<!-- wrong -->", '<p role="alert">That is not the password.</p>')
    await _send_text(send, 401, page, kind="text/html")
