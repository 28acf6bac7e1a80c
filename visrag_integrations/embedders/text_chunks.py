"""A text in pieces: of so many characters, and short enough for what reads them."""

from __future__ import annotations

import re
from collections.abc import Callable

from visrag_integrations.errors import SettingError

FEWEST_CHARACTERS = 20
"""Of a chunk that is asked for: shorter ones are words without what they are about."""


def checked_chunks(size: int | None, overlap: int | None, usual: tuple[int, int]) -> tuple[int, int]:
    """Characters of a chunk, and those it shares with the one before it; what is not said is as usual.

    Raises:
        SettingError: One of them is not allowed.
    """
    usual_size, usual_overlap = usual
    if size is None:
        size = usual_size
    if size < FEWEST_CHARACTERS:
        raise SettingError(
            f"chunk_size is {size}; it counts characters, {FEWEST_CHARACTERS} or more ({usual_size} is usual)."
        )
    if overlap is None:
        overlap = min(usual_overlap, size // 2)
    if not 0 <= overlap <= size // 2:
        raise SettingError(f"chunk_overlap is {overlap}; allowed is 0 to {size // 2}, half of chunk_size={size}.")
    return size, overlap


def split(text: str, size: int, overlap: int) -> list[str]:
    """The text in pieces of at most `size` characters, cut between words where there is white space.

    >>> split("one two three four five six", 20, 8)
    ['one two three four', 'four five six']
    """
    text = re.sub(r"\s+", " ", text).strip()
    pieces, start = [], 0
    while start < len(text):
        end = start + size
        if end < len(text):
            # Cut at a space in the last quarter; a piece that has none there (Chinese, a long number) is cut anywhere.
            space = text.rfind(" ", end - size // 4, end + 1)
            if space > 0:
                end = space
        pieces.append(text[start:end].strip())
        if end >= len(text):
            break
        # The next piece starts so far before the end of this one, at a word where there is one.
        earliest = max(end - overlap, start + 1)
        space = text.find(" ", earliest - 1, end)
        start = earliest
        if space >= 0:
            start = space + 1
    return pieces


def cut_to_fit(chunk: str, fits: Callable[[str], bool]) -> list[str]:
    """The chunk, or halves of it, or halves of those: pieces that fit. A single character stays.

    >>> cut_to_fit("one two three four five six seven", lambda piece: len(piece) < 20)
    ['one two three', 'four five six', 'seven']
    """
    if fits(chunk) or len(chunk) < 2:
        return [chunk]
    pieces: list[str] = []
    for half in split(chunk, (len(chunk) + 1) // 2, 0):
        pieces += cut_to_fit(half, fits)
    return pieces
