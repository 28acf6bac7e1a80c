"""Web pages as pictures: an .html file, or what stands behind a URL, drawn by Chromium and cut into tiles.

The pictures show what a browser would. Words and their boxes come from the browser's own layout. An .html file is given
no network and no other file. A URL's page is given what its own host sends, and what hosts send that the caller names.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from visrag_integrations import fetching, images
from visrag_integrations.errors import DocumentError, DocumentTimeoutError, FetchError
from visrag_integrations.readers.chromium import (
    BrowserError,
    BrowserTimeout,
    Chromium,
    WebReply,
    WebRequest,
    find_program,
)
from visrag_integrations.readers.content import PageContent, RenderSettings, clean_text
from visrag_integrations.readers.sources import Source
from visrag_integrations.readers.tiles import tiles_of
from visrag_integrations.types import Word

logger = logging.getLogger(__name__)

WIDTH = 1280
"""CSS pixels: what most pages are laid out for on a desk; narrower ones show the layout of a phone."""
TILE = 1810
"""CSS pixels of a tile's height: the shape of an A4 page, as embedders are trained on."""
MAX_HEIGHT = 200_000
"""CSS pixels; of a page that goes on and on only so much is drawn (120 tiles), and a warning says so."""
MAX_PARTS = 500
"""Pictures, style sheets and fonts that a page may ask for; a page of a newspaper asks for 200."""
MAX_PARTS_BYTES = 100 << 20
"""Bytes of all of them together."""
_FOR_PARTS = 0.5
"""Of the time for a page: how long its pictures and style sheets are waited for. The rest is for laying it out."""
NO_HOST = "http://page.invalid/"
"""Where an .html file seems to come from; the name belongs to nobody (RFC 2606)."""


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


class WebDocument:
    """An open web page; see `DocumentContent`.

    Raises:
        DocumentError: There is no Chromium, or it cannot draw the page; `DocumentTimeoutError` when it takes too long.
    """

    def __init__(self, source: Source, settings: RenderSettings, web: WebSettings) -> None:
        program = find_program()
        if program is None:
            raise DocumentError(
                source.name,
                "web pages are drawn by Chromium, which is not on the PATH. Install it (for example apt-get install "
                "chromium), or print the page to a PDF and index that.",
            )
        self._source, self._settings, self._web = source, settings, web
        try:
            self._browser = Chromium(
                program, WIDTH, TILE, _Parts(source, web).reply, scripts=web.scripts, seconds=web.timeout
            )
        except BrowserError as err:
            raise self._error(err) from err
        try:
            self._load()
        except BrowserError as err:
            self.close()
            raise self._error(err) from err
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        self._browser.open(self._source.url or NO_HOST, patience=self._web.timeout * _FOR_PARTS)
        width, height = self._browser.size()
        self._width = max(1, min(width, 2 * WIDTH))  # a wider page is cut at its right, as a window would
        self.metadata: Mapping[str, Any] = {"web_page": True}
        if height > MAX_HEIGHT:
            logger.warning("%s: only the first %d of %d pixels are read.", self._source.name, MAX_HEIGHT, height)
            self.metadata = {"web_page": True, "cut_after_pixels": MAX_HEIGHT}
            height = MAX_HEIGHT
        self._tiles = tiles_of(max(height, 1), TILE)
        found = self._browser.evaluate(_script())
        if found["title"]:
            self.metadata = {**self.metadata, "title": clean_text(str(found["title"]))[:500]}
        self._words: list[tuple[str, float, float, float, float]] = [tuple(word) for word in found["words"]]

    @property
    def total_pages(self) -> int:
        return len(self._tiles)

    def page(self, number: int) -> PageContent:
        top, bottom = self._tiles[number - 1]
        self._browser.allow(self._web.timeout)
        with images.open_picture(self._browser.picture(top, bottom, self._width)) as drawn:
            picture = images.to_rgb(drawn)
        words = self._drawn_words(np.asarray(picture), top, bottom)
        text = _as_lines(words)
        return PageContent(images.fit(picture, self._settings.max_pixels), text, tuple(words))

    def close(self) -> None:
        self._browser.close()

    def _drawn_words(self, pixels: Any, top: int, bottom: int) -> list[Word]:
        """The words of a tile that leave a mark in its picture: white on white says nothing to a reader."""
        words: list[Word] = []
        for text, left, upper, right, lower in self._words:
            if not top <= (upper + lower) / 2 < bottom or right <= 0 or left >= self._width:
                continue
            box = pixels[max(0, int(upper - top)) : int(lower - top) + 1, max(0, int(left)) : int(right) + 1]
            if not box.size or (box == box[0, 0]).all():
                continue
            edges = (
                left / self._width,
                (upper - top) / (bottom - top),
                right / self._width,
                (lower - top) / (bottom - top),
            )
            within = tuple(round(min(1.0, max(0.0, edge)), 5) for edge in edges)
            words.append(Word(clean_text(text), within))  # type: ignore[arg-type]
        return words

    def _error(self, err: BrowserError) -> DocumentError:
        if isinstance(err, BrowserTimeout):
            return DocumentTimeoutError(self._source.name, f"{err}. Raise web_timeout, or print the page to a PDF.")
        return DocumentError(self._source.name, f"cannot be drawn: {err}.")


class _Parts:
    """Answers what the page asks for: the page itself, then what its own host sends, within limits."""

    def __init__(self, source: Source, web: WebSettings) -> None:
        self._source = source
        self._hosts = frozenset(host.lower() for host in web.hosts)
        self._end = time.monotonic() + web.timeout * _FOR_PARTS
        self._own = (urlsplit(source.url).hostname or "").lower()
        # The operator named the page's host; a host that the operator's URL was redirected to is a stranger's.
        given = (urlsplit(source.name).hostname or "").lower() if source.url else ""
        self._trusted = self._hosts | ({given} if given else frozenset())
        self._handed_out = False
        self._parts = 0
        self._bytes_left = MAX_PARTS_BYTES

    def reply(self, request: WebRequest) -> WebReply | None:
        """What the browser is given; None refuses."""
        if request.is_page:
            return self._page()
        if not self._source.url or request.method != "GET":
            return None
        parts = urlsplit(request.url)
        host = (parts.hostname or "").lower()
        if parts.scheme not in ("http", "https") or host not in {self._own, *self._hosts}:
            return None
        self._parts += 1
        if self._parts > MAX_PARTS:
            return None
        return self._fetch(request.url, host)

    def _page(self) -> WebReply | None:
        """The page, once: a page that sends its reader on to another one stays where it is."""
        if self._handed_out:
            return WebReply(b"", status=204)  # "no content": the browser stays where it is; refused, it shows an error
        self._handed_out = True
        return WebReply(self._source.read_bytes(), self._source.content_type or "text/html")

    def _fetch(self, url: str, host: str) -> WebReply | None:
        destination = fetching.Destination(host in self._trusted, frozenset({self._own, *self._hosts}))
        left = self._end - time.monotonic()
        if left <= 0 or self._bytes_left <= 0:
            return None
        try:
            found = fetching.fetch(url, max_bytes=self._bytes_left, seconds=left, destination=destination)
        except FetchError as err:
            logger.info("%s: a part of the page is missing: %s", self._source.name, err)
            return None
        self._bytes_left -= len(found.data)
        return WebReply(found.data, found.headers.get("content-type", ""), found.status)


def _as_lines(words: list[Word]) -> str:
    """The words as text: a new line where the next word stands lower, or begins again at the left."""
    text = ""
    last: Word | None = None
    for word in words:
        if last is not None:
            same_line = word.box[1] < (last.box[1] + last.box[3]) / 2 < word.box[3]
            text += " " if same_line and word.box[0] >= last.box[0] else "\n"
        text += word.text
        last = word
    return text


@functools.lru_cache(maxsize=1)
def _script() -> str:
    return files("visrag_integrations.readers").joinpath("web_words.js").read_text(encoding="utf-8")
