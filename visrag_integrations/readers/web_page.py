"""Web pages as pictures: an .html file, or what stands behind a URL, drawn by Chromium and cut into tiles.

The pictures show what a browser would. Words and their boxes come from the browser's own layout. An .html file is given
no network and no other file. A URL's page is given what its own host sends, and what hosts send that the caller names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np

from visrag_integrations import images
from visrag_integrations.errors import DocumentError, DocumentTimeoutError
from visrag_integrations.readers import fonts
from visrag_integrations.readers.chromium import (
    BrowserError,
    BrowserTimeout,
    Chromium,
    find_program,
)
from visrag_integrations.readers.content import PageContent, RenderSettings, clean_text
from visrag_integrations.readers.sources import Source
from visrag_integrations.readers.tiles import tiles_of
from visrag_integrations.readers.web_parts import FOR_PARTS, WebParts, WebSettings
from visrag_integrations.types import Word

WIDTH = 1280
"""CSS pixels: what most pages are laid out for on a desk; narrower ones show the layout of a phone."""
TILE = 1810
"""CSS pixels of a tile's height: the shape of an A4 page, as embedders are trained on."""
MAX_HEIGHT = 200_000
"""CSS pixels; of a page that goes on and on only so much is drawn (120 tiles), and a warning says so."""
_MOST_LETTERS = 100_000  # of a tile that are looked at for letters without a font
NO_HOST = "http://page.invalid/"
"""Where an .html file seems to come from; the name belongs to nobody (RFC 2606)."""


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
        self._parts = WebParts(source, web)
        try:
            self._browser = Chromium(program, WIDTH, TILE, self._parts.reply, scripts=web.scripts, seconds=web.timeout)
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
        complete = self._browser.open(self._source.url or NO_HOST, patience=self._web.timeout * FOR_PARTS)
        width, height = self._browser.size()
        self._width = max(1, min(width, 2 * WIDTH))  # a wider page is cut at its right, as a window would
        found = self._browser.evaluate(_script())
        self._words: list[tuple[str, float, float, float, float]] = [tuple(word) for word in found["words"]]
        about: dict[str, Any] = {"web_page": True}
        warnings: list[str] = []
        if height > MAX_HEIGHT:
            about["cut_after_pixels"] = MAX_HEIGHT
            warnings.append(f"only the first {MAX_HEIGHT} of {height} pixels of its height are read.")
            height = MAX_HEIGHT
        if width > self._width:
            warnings.append(f"only the first {self._width} of {width} pixels of its width are read.")
        if not found["complete"]:
            warnings.append(f"only the first {len(self._words)} of its words are read; its pictures are whole.")
        if not complete:
            warnings.append(
                f"it was still loading after {self._web.timeout * FOR_PARTS:g} seconds, and is read as it was then. "
                "Raise web_timeout to wait longer."
            )
        if found["scripts"] and not self._words and not self._web.scripts:
            warnings.append(
                "it shows no text, and has scripts, which were not run. PageReader(web_scripts=True), or "
                "--web-scripts, runs them."
            )
        if found["title"]:
            about["title"] = clean_text(str(found["title"]))[:500]
        self._tiles = tiles_of(max(height, 1), TILE)
        self.metadata: Mapping[str, Any] = {**about, "warnings": (*warnings, *self._parts.warnings)}

    @property
    def total_pages(self) -> int:
        return len(self._tiles)

    def page(self, number: int) -> PageContent:
        top, bottom = self._tiles[number - 1]
        self._browser.allow(self._web.timeout)
        with images.open_picture(self._browser.picture(top, bottom, self._width)) as drawn:
            picture = images.to_rgb(drawn)
        words, blank = self._drawn_words(np.asarray(picture), top, bottom)
        text = _as_lines(words)
        warnings: tuple[str, ...] = ()
        # Of what left no mark, the letters that no font has; white letters on white say nothing to a reader either.
        lost = fonts.undrawable("".join(blank)[:_MOST_LETTERS])
        if lost:
            warnings = (fonts.undrawable_warning(lost, "are not drawn, and the words with them left out"),)
        return PageContent(images.fit(picture, self._settings.max_pixels), text, tuple(words), warnings=warnings)

    def close(self) -> None:
        self._browser.close()

    def _drawn_words(self, pixels: Any, top: int, bottom: int) -> tuple[list[Word], list[str]]:
        """The words of a tile that leave a mark in its picture, and the texts of those that do not."""
        words: list[Word] = []
        blank: list[str] = []
        for text, left, upper, right, lower in self._words:
            if not top <= (upper + lower) / 2 < bottom or right <= 0 or left >= self._width:
                continue
            box = pixels[max(0, int(upper - top)) : int(lower - top) + 1, max(0, int(left)) : int(right) + 1]
            if not box.size or (box == box[0, 0]).all():
                blank.append(text)
                continue
            edges = (
                left / self._width,
                (upper - top) / (bottom - top),
                right / self._width,
                (lower - top) / (bottom - top),
            )
            within = tuple(round(min(1.0, max(0.0, edge)), 5) for edge in edges)
            words.append(Word(clean_text(text), within))  # type: ignore[arg-type]
        return words, blank

    def _error(self, err: BrowserError) -> DocumentError:
        if isinstance(err, BrowserTimeout):
            return DocumentTimeoutError(self._source.name, f"{err}. Raise web_timeout, or print the page to a PDF.")
        return DocumentError(self._source.name, f"cannot be drawn: {err}. Print the page to a PDF, and index that.")


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
