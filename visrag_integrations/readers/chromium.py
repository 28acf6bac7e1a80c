"""Headless Chromium that sees nothing but what it is handed: every request it makes is answered here, or refused.

The browser runs with its own sandbox, as a user without rights where this process has them, and without a network:
names lead nowhere, and its proxy does not exist. It is spoken to over two pipes in the DevTools protocol
(https://chromedevtools.github.io/devtools-protocol/): JSON messages that end in a zero byte.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import math
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from visrag_integrations.files import ScratchFolder
from visrag_integrations.readers import child_process

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
NOBODY = 65534
"""The user without rights: Chromium's sandbox refuses to start for root."""
MAX_MESSAGE = 256 << 20
"""Bytes of one message: a picture of 60 million pixels has less."""

_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name leads anywhere
    "--proxy-server=http://127.0.0.1:9",  # nobody listens there, so that an address leads nowhere either
    "--proxy-bypass-list=<-loopback>",  # not even to this machine
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",  # nor does a call of a script's
    "--block-new-web-contents",  # no second window, whose requests would not be answered here
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-gpu",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--no-default-browser-check",
    "--force-color-profile=srgb",
    "about:blank",
)


class BrowserError(Exception):
    """The browser cannot be started, failed, or took too long; the message says which."""


class BrowserTimeout(BrowserError, TimeoutError):
    """It took too long."""


@dataclass(frozen=True)
class WebRequest:
    """What the page asks for.

    Attributes:
        url: Where.
        method: "GET" and so on.
        kind: What it wants it for, as Chromium says: "Document", "Stylesheet", "Image", "Font", ...
        is_page: Whether it is the page itself, not a part or a frame of it.
    """

    url: str
    method: str
    kind: str
    is_page: bool


@dataclass(frozen=True)
class WebReply:
    """What it is handed."""

    data: bytes
    content_type: str = ""
    status: int = 200


def find_program() -> str | None:
    """The browser on the PATH; None where there is none."""
    for name in PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            return found
    return _MAC if os.path.exists(_MAC) else None


@functools.lru_cache(maxsize=1)
def _without_network() -> tuple[str, ...]:
    """What puts a program into a network of its own, where nothing is; empty where the system has no such thing.

    A second wall: the options below hold by themselves, as far as the browser keeps to them.
    """
    prefix = ("unshare", "--user", "--map-current-user", "--net", "--")
    if shutil.which("unshare") is None:
        return ()
    settings: dict[str, Any] = {}
    if os.geteuid() == 0:
        settings = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, timeout=10, check=False, **settings)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return prefix if tried.returncode == 0 else ()


class Chromium:
    """One page in a browser of its own. Every call ends with `BrowserTimeout` when the time is over.

    Args:
        program: The browser.
        width: Of the window, in CSS pixels.
        height: Of the window.
        reply: Answers the page's requests; None refuses one.
        scripts: Whether the page's scripts run.
        seconds: For everything that is asked of it until `allow` is called.
    """

    def __init__(
        self,
        program: str,
        width: int,
        height: int,
        reply: Callable[[WebRequest], WebReply | None],
        *,
        scripts: bool = False,
        seconds: float = 60.0,
    ) -> None:
        self._reply = reply
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._calls = 0
        self._session = ""
        self._frame = ""
        self._events: set[str] = set()
        self._received = bytearray()
        self._scratch = ScratchFolder("web")
        self._folder = self._scratch.path
        try:
            self._start(program)
            self._prepare(width, height, scripts)
        except BaseException:
            self.close()
            raise

    def allow(self, seconds: float) -> None:
        """Give what is asked from now on so many seconds."""
        self._end = time.monotonic() + seconds
        self._seconds = seconds

    def open(self, url: str, patience: float) -> bool:
        """Go to a page and wait until it and its parts are loaded; parts that lack after `patience` are left out.

        Gives whether none is left out.

        Raises:
            BrowserError: The page itself did not come.
        """
        parts_end = time.monotonic() + patience
        self._events.clear()
        found = self.call("Page.navigate", {"url": url})
        if found.get("errorText"):
            raise BrowserError(f"the page did not load: {found['errorText']}")
        while "Page.loadEventFired" not in self._events:
            message = self._message(until=parts_end)
            if message is not None:
                self._handle(message)
                continue
            self.call("Page.stopLoading")
            return False
        return True

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of ours, in a world that the page's own scripts do not share."""
        world = self.call("Page.createIsolatedWorld", {"frameId": self._frame})
        context = world["executionContextId"]
        found = self.call("Runtime.evaluate", {"contextId": context, "expression": expression, "returnByValue": True})
        if "exceptionDetails" in found:
            raise BrowserError(f"the page cannot be examined: {found['exceptionDetails'].get('text')}")
        return found["result"].get("value")

    def picture(self, top: int, bottom: int, width: int) -> bytes:
        """The page from `top` to `bottom`, as a PNG."""
        clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
        found = self.call("Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True})
        return base64.b64decode(found["data"])

    def size(self) -> tuple[int, int]:
        """Width and height of the whole page, in CSS pixels."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return int(size["width"]), int(size["height"])

    def call(self, method: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The result of a command of the protocol.

        Raises:
            BrowserError: It failed, or the browser is gone.
        """
        number = self._send(method, arguments)
        while True:
            message = self._message() or {}
            if message.get("id") != number:
                self._handle(message)
                continue
            if "error" in message:
                raise BrowserError(f"{method} failed: {message['error'].get('message')}")
            result: dict[str, Any] = message.get("result", {})
            return result

    def close(self) -> None:
        """End the browser and remove what it wrote."""
        process = getattr(self, "_process", None)
        if process is not None:
            child_process.end_with_group(process, own_group=self._own_group)
            process.wait()
            self._input.close()
            self._output.close()
        self._scratch.close()

    def _start(self, program: str) -> None:
        if sys.platform == "win32":
            raise BrowserError("web pages are drawn on Linux and macOS only. Print the page to a PDF.")
        to_browser, self_in = os.pipe()
        self_out, from_browser = os.pipe()
        settings: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
            settings = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        # The browser reads descriptor 3 and writes 4; the shell moves its own input and output there, and is replaced.
        redirect = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null'
        profile = f"--user-data-dir={self._folder}/profile"
        command = [*_without_network(), "/bin/sh", "-c", redirect, "sh", program, profile, *_OPTIONS]
        # A reading process leads a group that is ended as a whole; anywhere else the browser gets a group of its own.
        self._own_group = not child_process.leads_group()
        # Nothing of this process's environment: it may hold keys, and the page is a stranger's.
        environment = {"HOME": str(self._folder), "PATH": os.defpath, "TMPDIR": str(self._folder), "LANG": "C.UTF-8"}
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=to_browser,
                stdout=from_browser,
                stderr=log,
                env=environment,
                start_new_session=self._own_group,
                **settings,
            )
        os.close(to_browser)
        os.close(from_browser)
        self._input = os.fdopen(self_in, "wb", 0)
        self._output = os.fdopen(self_out, "rb", 0)

    def _prepare(self, width: int, height: int, scripts: bool) -> None:
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._frame = self.call("Page.getFrameTree")["frameTree"]["frame"]["id"]
        self.call("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})  # before anything else can be asked for
        self.call("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        self.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )
        self.call("Browser.setDownloadBehavior", {"behavior": "deny"})
        self.call("Page.enable")

    def _send(self, method: str, arguments: Mapping[str, Any] | None) -> int:
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": arguments or {}}
        if self._session and not method.startswith("Browser."):
            message["sessionId"] = self._session
        try:
            self._input.write(json.dumps(message).encode() + b"\0")
        except (OSError, ValueError) as err:
            raise self._gone() from err
        return self._calls

    def _message(self, until: float = math.inf) -> dict[str, Any] | None:
        """The next message; None when `until` has come before it.

        Raises:
            BrowserTimeout: The time for everything is over.
        """
        while b"\0" not in self._received:
            left = min(self._end, until) - time.monotonic()
            if left <= 0 or not select.select([self._output], [], [], left)[0]:
                if until < self._end:
                    return None
                raise BrowserTimeout(f"the browser took longer than {self._seconds:g} seconds")
            block = os.read(self._output.fileno(), 1 << 16)
            if not block:
                raise self._gone()
            self._received += block
            if len(self._received) > MAX_MESSAGE:
                raise BrowserError(f"the browser sent a message of more than {MAX_MESSAGE} bytes")
        message, _, rest = bytes(self._received).partition(b"\0")
        self._received = bytearray(rest)
        found: dict[str, Any] = json.loads(message)
        return found

    def _handle(self, message: dict[str, Any]) -> None:
        method = message.get("method", "")
        if method == "Fetch.requestPaused":
            self._answer(message["params"])
        elif method == "Inspector.targetCrashed":
            raise BrowserError("the page crashed the browser")
        else:
            self._events.add(method)

    def _answer(self, paused: dict[str, Any]) -> None:
        request = paused["request"]
        kind = paused.get("resourceType", "")
        is_page = kind == "Document" and paused.get("frameId") == self._frame
        reply = self._reply(WebRequest(request["url"], request["method"], kind, is_page))
        number = paused["requestId"]
        if reply is None:
            self._send("Fetch.failRequest", {"requestId": number, "errorReason": "BlockedByClient"})
            return
        headers = []
        if reply.content_type:
            headers.append({"name": "Content-Type", "value": reply.content_type})
        body = base64.b64encode(reply.data).decode("ascii")
        answer = {"requestId": number, "responseCode": reply.status, "responseHeaders": headers, "body": body}
        self._send("Fetch.fulfillRequest", answer)

    def _gone(self) -> BrowserError:
        said = ""
        with contextlib.suppress(OSError):
            said = (self._folder / "log").read_text(encoding="utf-8", errors="replace").strip()[-300:]
        if "sandbox" in said.lower():
            return BrowserError(
                "Chromium's sandbox cannot start on this system, and without it no page is opened. Allow user "
                f"namespaces, or run where they are allowed. It said: {said}"
            )
        return BrowserError(f"the browser ended by itself. It said: {said}")
