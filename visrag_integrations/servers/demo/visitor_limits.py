"""How much the people who open the page may put on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.errors import SettingError


@dataclass(frozen=True)
class Limits:
    """What uploads and questions may be; every one is refused with a message that names the limit.

    Attributes:
        file_bytes: One uploaded file.
        files: Files in one upload.
        total_bytes: Everything in the folder: documents, page pictures and vectors.
        bases: Knowledge bases.
        question: Characters of a question.
        waiting: Requests that may wait for their turn.
        asking: Questions that are answered at the same time.
        pages: Pages that are read for one question.
        turns: Steps of a model that searches by itself.
        seconds: Of one answer; then it ends with what it has.
    """

    file_bytes: int = 100 << 20
    files: int = 20
    total_bytes: int = 10 << 30
    bases: int = 100
    question: int = 4000
    waiting: int = 64
    asking: int = 4
    pages: int = 10
    turns: int = 10
    seconds: int = 900

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise SettingError(f"{name}={value!r}; it must be 1 or more.")


def in_words(size: int) -> str:
    """Bytes as people say them.

    >>> in_words(100 << 20), in_words(1536), in_words(7)
    ('100 MB', '1.5 KB', '7 bytes')
    """
    # The largest unit that gives 1 or more.
    for unit, name in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if size >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size} bytes"
