"""Text while it is written: tokens become text as soon as it cannot change, and ends at a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_UNFINISHED = "\ufffd"  # what a decoder gives for bytes that are no whole character yet
# Tokens decoded again with each new one: what a token reads as may depend on those before it (a blank between words,
# the bytes of one character). With none the text could differ from the whole; with all of them reading takes quadratic
# time.
_CONTEXT = 8


@dataclass
class TokenReader:
    """Takes token ids one by one, gives new text; bytes of an unfinished character are held back.

    Args:
        decode: Token ids in, their text out.
    """

    decode: Callable[[Sequence[int]], str]
    ids: list[int] = field(default_factory=list)
    _start: int = 0
    _read: int = 0  # tokens whose text is out

    def feed(self, token: int) -> str:
        """The text that is certain now."""
        self.ids.append(token)
        return self._new(final=False)

    def finish(self) -> str:
        """The rest."""
        return self._new(final=True)

    def _new(self, *, final: bool) -> str:
        before = self.decode(self.ids[self._start : self._read])
        text = self.decode(self.ids[self._start :])
        if not final and (text.endswith(_UNFINISHED) or len(text) <= len(before)):
            return ""
        self._start = max(self._start, self._read - _CONTEXT)
        self._read = len(self.ids)
        return text[len(before) :]


@dataclass
class StopStringFilter:
    """Takes text in pieces, gives the text before the first stop string.

    Attributes:
        stopped: Whether a stop string came.
    """

    stops: Sequence[str] = ()
    stopped: bool = False
    _held: str = ""

    def feed(self, piece: str) -> str:
        """The text that is certainly before any stop string.

        >>> before = StopStringFilter(["END"])
        >>> before.feed("one E"), before.feed("N"), before.feed("D two"), before.stopped
        ('one ', '', '', True)
        """
        if self.stopped:
            return ""
        text = self._held + piece
        places = [text.find(stop) for stop in self.stops if stop in text]
        if places:
            self.stopped = True
            self._held = ""
            return text[: min(places)]
        held = max((_overlap(text, stop) for stop in self.stops), default=0)
        end = len(text) - held
        self._held = text[end:]
        return text[:end]

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text may be the beginning of the stop string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0


def mean(logprobs: Sequence[float]) -> float | None:
    """The mean of the log-probabilities; None where there are none."""
    return sum(logprobs) / len(logprobs) if logprobs else None
