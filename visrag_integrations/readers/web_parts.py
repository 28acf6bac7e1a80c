"""What a web page is given: itself, and the pictures, style sheets and fonts that may be fetched for it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

from visrag_integrations import fetching
from visrag_integrations.errors import FetchError, printable
from visrag_integrations.readers.chromium import WebReply, WebRequest
from visrag_integrations.readers.sources import Source

logger = logging.getLogger(__name__)

MAX_PARTS = 500
"""Pictures, style sheets and fonts that a page may ask for; a page of a newspaper asks for 200."""
MAX_PARTS_BYTES = 100 << 20
"""Bytes of all of them together."""
FOR_PARTS = 0.5
"""Of the time for a page: how long its pictures and style sheets are waited for. The rest is for laying it out."""
# Hosts that a warning names; a page of a newspaper asks dozens.
_MOST_HOSTS = 5
# What is drawn of what a page asks for, as Chromium calls it; the rest is for scripts, or for nobody to see.
_DRAWN = frozenset(["Stylesheet", "Image", "Font", "Document", "Media"])


@dataclass(frozen=True)
class WebSettings:
    """How web pages are opened.

    Attributes:
        scripts: Whether a page's own scripts run.
        hosts: Hosts, beside the page's own, whose pictures, style sheets and fonts are fetched.
        timeout: Seconds for loading a page, and again for each tile of it. Parts that have not come after half of them
            are left out.
    """

    scripts: bool = False
    hosts: tuple[str, ...] = ()
    timeout: float = 60.0


class WebParts:
    """Answers what the page asks for: the page itself, then what its own host sends, within limits."""

    def __init__(self, source: Source, web: WebSettings) -> None:
        self._source = source
        self._hosts = frozenset(host.lower() for host in web.hosts)
        self._end = time.monotonic() + web.timeout * FOR_PARTS
        self._own = (urlsplit(source.url).hostname or "").lower()
        # The operator named the page's host; a host that the operator's URL was redirected to is a stranger's.
        given = (urlsplit(source.name).hostname or "").lower() if source.url else ""
        self._trusted = self._hosts | ({given} if given else frozenset())
        self._handed_out = False
        self._parts = 0
        self._bytes_left = MAX_PARTS_BYTES
        self._refused: Counter[str] = Counter()  # by host
        self._failed = self._beyond = 0

    @property
    def warnings(self) -> list[str]:
        """What of the page was not fetched, and how it can be."""
        said: list[str] = []
        parts = "pictures, style sheets, fonts or frames"
        if self._refused and not self._source.url:
            said.append(
                f"{self._refused.total()} {parts} that it links to are not shown: an .html file is given nothing but "
                "itself. Print the page to a PDF to have them, or index its URL."
            )
        elif self._refused:
            hosts = [host or "(no host)" for host, _ in self._refused.most_common()]
            named = ", ".join(printable(host) for host in hosts[:_MOST_HOSTS])
            if len(hosts) > _MOST_HOSTS:
                named += f" and {len(hosts) - _MOST_HOSTS} more"
            said.append(
                f"{self._refused.total()} {parts} of other hosts were not fetched ({named}). "
                "PageReader(web_hosts=(...)), or --web-host HOST, allows a host."
            )
        if self._failed:
            said.append(f"{self._failed} {parts} could not be fetched, or did not come in time.")
        if self._beyond:
            said.append(
                f"{self._beyond} {parts} were not fetched: {MAX_PARTS} of them and {MAX_PARTS_BYTES >> 20} MiB are "
                "allowed."
            )
        return said

    def reply(self, request: WebRequest) -> WebReply | None:
        """What the browser is given; None refuses."""
        if request.is_page:
            return self._page()
        drawn = request.kind in _DRAWN
        parts = urlsplit(request.url)
        host = (parts.hostname or "").lower()
        known = parts.scheme in ("http", "https") and host in {self._own, *self._hosts}
        if not self._source.url or request.method != "GET" or not known:
            if drawn:
                self._refused[host] += 1
            return None
        self._parts += 1
        if self._parts > MAX_PARTS or self._bytes_left <= 0:
            self._beyond += drawn
            return None
        reply = self._fetch(request.url, host)
        if drawn and (reply is None or reply.status >= 400):
            self._failed += 1
        return reply

    def _page(self) -> WebReply | None:
        """The page, once: a page that sends its reader on to another one stays where it is."""
        if self._handed_out:
            return WebReply(b"", status=204)  # "no content": the browser stays where it is; refused, it shows an error
        self._handed_out = True
        return WebReply(self._source.read_bytes(), self._source.content_type or "text/html")

    def _fetch(self, url: str, host: str) -> WebReply | None:
        destination = fetching.Destination(host in self._trusted, frozenset({self._own, *self._hosts}))
        left = self._end - time.monotonic()
        if left <= 0:
            return None
        try:
            found = fetching.fetch(url, max_bytes=self._bytes_left, seconds=left, destination=destination)
        except FetchError as err:
            logger.info("%s: a part of the page is missing: %s", self._source.name, err)
            return None
        self._bytes_left -= len(found.data)
        return WebReply(found.data, found.headers.get("content-type", ""), found.status)
