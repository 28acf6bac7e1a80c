"""Text while it is written: tokens become text as soon as it cannot change, and ends at a stop string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

_UNFINISHED = "\ufffd"
_CONTEXT = 8  # tokens decoded again with each new one: what a token reads as may depend on those before it


@dataclass
class TokenReader:
    """Token ids one by one in, new text out; bytes of an unfinished character are held back.

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
        self._start, self._read = max(self._start, self._read - _CONTEXT), len(self.ids)
        return text[len(before) :]


@dataclass
class StopWatch:
    """Text in pieces in, the text before the first stop string out.

    Attributes:
        stopped: Whether a stop string came.
    """

    stops: Sequence[str] = ()
    stopped: bool = False
    _held: str = ""

    def feed(self, piece: str) -> str:
        """The text that is certainly before any stop string.

        >>> watch = StopWatch(["END"])
        >>> watch.feed("one E"), watch.feed("N"), watch.feed("D two"), watch.stopped
        ('one ', '', '', True)
        """
        if self.stopped:
            return ""
        text = self._held + piece
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        end = len(text) - max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[end:]
        return text[:end]

    def finish(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text may be the beginning of the stop string."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
