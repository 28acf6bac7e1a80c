"""Texts and numbers of others in a message of ours: the beginning, on one line."""

from __future__ import annotations

from collections.abc import Sequence

from visrag_integrations.errors import printable


def excerpt(text: str, length: int = 60) -> str:
    """The beginning of a text on one line, quoted, for a message.

    >>> excerpt("a\\n  b" * 40, 6)
    '"a ba b..."'
    """
    most = 4 * length  # blanks are folded; so much of the text is enough, and a megabyte of it is never copied
    line = printable(" ".join(text[:most].split()))
    if len(line) <= length and len(text) <= most:
        return f'"{line}"'
    return f'"{line[:length].rstrip()}..."'


def listed(numbers: Sequence[int], limit: int = 5) -> str:
    """Numbers for a message, the first few of them.

    >>> listed([2, 3, 4], limit=2)
    '2, 3 and 1 more'
    """
    text = ", ".join(map(str, numbers[:limit]))
    if len(numbers) > limit:
        return f"{text} and {len(numbers) - limit} more"
    return text
