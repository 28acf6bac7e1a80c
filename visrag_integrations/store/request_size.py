"""How much one request and one answer may hold, in bytes. Pure.

A server takes 33,554,432 bytes a request, and no limit is known of an answer: what 256 pages of 700 x 128 numbers take
was 1.9 GB of this process's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from visrag_integrations.errors import PageError
from visrag_integrations.store.engine import Point, Record

# Some 5 MB are best: with less each request's own cost shows, with more memory is held for nothing and a request that
# fails is a larger loss.
SENT_AT_ONCE = 5_000_000
"""Bytes of one request that writes."""
MAX_REQUEST = 33_554_432
"""Bytes that a server takes in one request, unless its operator set another limit."""
SERVER_MAX_NUMBERS = 1_048_575
"""Numbers in one multi-vector: "must be less than 1048576", it says."""
# What stands around the points of a request.
_FRAME = 1000
# The 32 MB that an answer may have, as JSON: a number takes up to 20 bytes there, a character of text one.
_READ_AT_ONCE = 32_000_000
_BYTES_OF_A_NUMBER = 20
# Points of one answer, at most; vectors of 4096 dimensions are 21 MB then.
MOST_POINTS = 256
# Pages of many vectors are of any size, some far larger than those before: 64 x 700 x 128 numbers are 115 MB.
_MOST_MULTI = 64
# Pages of many vectors in the first answer, while nothing is known of their size: at worst 4 x 21 MB.
_FIRST_MULTI = 4


def in_requests(encoded: Iterable[tuple[Point, Any, int]]) -> Iterator[list[Any]]:
    """What is to be sent, in lists of some 5 MB.

    Args:
        encoded: Each point, as it is sent, and the bytes it takes.

    Raises:
        PageError: One point alone is more than a server takes; the message names its page. What came before is in
            the lists already.
    """
    batch: list[Any] = []
    size = 0
    for point, sent, takes in encoded:
        if takes + _FRAME > MAX_REQUEST:
            raise _too_large(point, takes)
        if batch and size + takes > SENT_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(sent)
        size += takes
    if batch:
        yield batch


def _too_large(point: Point, takes: int) -> PageError:
    metadata = point.payload.get("metadata") or {}
    source = str(metadata.get("source") or metadata.get("doc_id") or point.id)
    return PageError(
        source,
        metadata.get("number", 0),
        f"takes {takes / 1e6:.1f} MB in a request, and a Qdrant server takes {MAX_REQUEST / 1e6:.1f} MB. Index it with "
        "less text and metadata, or with fewer vectors a page.",
    )


class AnswerSizes:
    """How many points fit in one answer, by the sizes of those that were met so far."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of the largest page, by the vectors' name
        self._multi: set[str] = set()
        self._text = 0  # characters of the longest page

    def note_vectors(self, vectors: Mapping[str, Any]) -> None:
        """These belong to a page; what are no arrays, sparse vectors, is nothing to go by."""
        for name, vector in vectors.items():
            if not isinstance(vector, np.ndarray):
                continue
            self._numbers[name] = max(vector.size, self._numbers.get(name, 0))
            if vector.ndim > 1:
                self._multi.add(name)

    def note(self, records: Iterable[Record]) -> None:
        """These came in an answer."""
        for record in records:
            self.note_vectors(record.vectors)
            text = record.payload.get("page_content")
            if isinstance(text, str):
                self._text = max(self._text, len(text))

    def points(self, vectors: Sequence[str], *, with_text: bool) -> int:
        """How many points the next answer may hold, with these vectors, and with their text.

        >>> sizes = AnswerSizes()
        >>> sizes.points(["patches"], with_text=False)
        4
        >>> sizes.note_vectors({"patches": np.ones((700, 128), np.float32)})
        >>> sizes.points(["patches"], with_text=False), sizes.points([], with_text=True)
        (17, 256)
        """
        most = MOST_POINTS
        takes = 1
        for name in vectors:
            if name not in self._numbers:
                most = _FIRST_MULTI
            elif name in self._multi:
                most = min(most, _MOST_MULTI)
            takes += self._numbers.get(name, 0) * _BYTES_OF_A_NUMBER
        if with_text:
            takes += self._text
        return max(1, min(most, _READ_AT_ONCE // takes))
