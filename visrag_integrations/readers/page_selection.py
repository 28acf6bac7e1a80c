"""Which pages of a document are read: "1-3,7", a range, numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from visrag_integrations.errors import SettingError

PageSelection = str | Iterable[int] | None

_EXAMPLES = 'Give "1-3,7", "5-", range(1, 4) or [1, 7].'


def select_pages(pages: PageSelection, total: int) -> list[int]:
    """The chosen page numbers (from 1) that a document of `total` pages has, in order, each once.

    >>> select_pages("1-3,7,9-", 10), select_pages(range(2, 5), 3), select_pages(None, 2)
    ([1, 2, 3, 7, 9, 10], [2, 3], [1, 2])
    """
    if pages is None:
        return list(range(1, total + 1))
    chosen: set[int] = set()
    for first, last in normalise_pages(pages) or ():
        if last == 0 or last > total:  # 0: the range is open, "5-"
            last = total
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def normalise_pages(pages: PageSelection) -> tuple[tuple[int, int], ...] | None:
    """A selection as (first, last) pairs; last is 0 where the range is open.

    >>> normalise_pages("2, 4-"), normalise_pages([5, 6]), normalise_pages(None)
    (((2, 2), (4, 0)), ((5, 5), (6, 6)), None)

    Raises:
        SettingError: It names no page, or a page before 1.
    """
    if pages is None:
        return None
    if isinstance(pages, int):
        raise SettingError(f"pages={pages!r} is one number{_instead_of(pages)}")
    if isinstance(pages, str):
        pairs = _parse(pages)
    elif isinstance(pages, range) and pages.step == 1 and pages:
        pairs = [(pages.start, pages.stop - 1)]  # not one by one: it may be huge
    else:
        pairs = list(map(_pair, pages))
    wrong = [(first, last) for first, last in pairs if first < 1 or 0 < last < first]
    if wrong or not pairs:
        raise SettingError(f"pages={pages!r} names no page; they count from 1. {_EXAMPLES}")
    return tuple(pairs)


def _instead_of(number: int) -> str:
    """What to give instead of one number, behind "is one number": it may mean that page, or so many pages.

    >>> _instead_of(3), _instead_of(0)[:30]
    ('. Give "3" or [3]; of the first pages, "1-3".', ', and pages count from 1. Give')
    """
    if isinstance(number, bool) or number < 1:
        return f", and pages count from 1. {_EXAMPLES}"
    return f'. Give "{number}" or [{number}]; of the first pages, "1-{number}".'


def _pair(number: object) -> tuple[int, int]:
    if isinstance(number, tuple) and len(number) == 2:  # what this module itself made of a selection before
        return number
    if isinstance(number, bool) or not isinstance(number, int):
        raise SettingError(f"Page {number!r} is not a page number; give whole numbers from 1.")
    return number, number


def _parse(text: str) -> list[tuple[int, int]]:
    pairs = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:(-)\s*(\d*)\s*)?", part)
        if match is None:
            raise SettingError(f'pages={text!r} cannot be understood at {part!r}. Give "1-3,7" or "5-".')
        first, dash, last = match.groups()
        if not dash:  # "7" is "7-7", and "7-" is open
            last = first
        pairs.append((int(first), int(last or 0)))
    return pairs
