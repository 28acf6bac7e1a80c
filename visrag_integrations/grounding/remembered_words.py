"""The words of pages that host frameworks hand around: their documents and nodes have no place for them."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Sequence

from visrag_integrations.types import Page, Word

_MAX_PAGES = 1024  # far more than one answer shows, and still a bound on memory; docs/grounding.md names it


class _RememberedWords:
    """The words of the pages that were found last, by page id."""

    def __init__(self, max_pages: int) -> None:
        self._max_pages = max_pages
        self._kept: OrderedDict[str, Sequence[Word]] = OrderedDict()  # the page found last comes last
        self._lock = threading.Lock()

    def keep(self, page: Page) -> None:
        with self._lock:
            self._kept[page.id] = page.words
            self._kept.move_to_end(page.id)
            while len(self._kept) > self._max_pages:
                self._kept.popitem(last=False)

    def find(self, page_id: str) -> Sequence[Word]:
        with self._lock:
            return self._kept.get(page_id, ())


_remembered = _RememberedWords(_MAX_PAGES)


def remember_words(page: Page) -> Page:
    """The page; its words are kept in this process, for when it comes back from a host framework without them."""
    if page.words:
        _remembered.keep(page)
    return page


def with_remembered_words(page: Page) -> Page:
    """The page with its words, where this process has found it before; else as it is.

    >>> page = remember_words(Page("d1", 3, words=(Word("Hi", (0.1, 0.1, 0.2, 0.2)),)))
    >>> with_remembered_words(Page("d1", 3)) == page
    True
    """
    if page.words:
        return page
    words = _remembered.find(page.id)
    if not words:
        return page
    return dataclasses.replace(page, words=words)
