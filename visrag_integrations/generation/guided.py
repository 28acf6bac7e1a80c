"""EVisRAG's answer format as a regular expression for engines that hold a model to one."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from visrag_integrations.errors import SettingError
from visrag_integrations.types import Conversation, GenerationSettings

CHARACTERS_PER_TOKEN = 4
"""What a token is taken for when the sections get their limits."""
_SHARES = {"observe": 0.3, "line": 0.3, "think": 0.3, "answer": 0.1}
_FIRST = r"[0-9A-Za-z\u00c0-\u1fff\u3041-\ud7a3]"  # a section begins with a letter or a digit, so it is never blank
_MORE = {"text": r"[^<]", "line": r"[^<\[\n\r]"}
_LONGEST_CHARACTER = 4  # bytes, and a token is at least one

Kind = Literal["observe", "line", "think", "answer"]


@dataclass(frozen=True)
class Form:
    """The four sections, with one evidence line for each picture.

    Attributes:
        images: How many pictures there are.
    """

    images: int

    @classmethod
    def of(cls, conversation: Conversation) -> Form:
        """The form of the answer to a conversation.

        Raises:
            SettingError: It shows no page.
        """
        images = sum(not isinstance(part, str) for message in conversation for part in message.content)
        if not images:
            raise SettingError("guided=True is for questions about pages, and this conversation shows none.")
        return cls(images)

    @property
    def parts(self) -> list[str | tuple[Kind]]:
        """What is fixed, as text, and what is free, as its kind."""
        lines: list[str | tuple[Kind]] = []
        for i in range(1, self.images + 1):
            lines += [f"\n[{i}]: ", ("line",)]
        return [
            *("<observe>", ("observe",), "</observe>\n<evidence>"),
            *lines,
            *("\n</evidence>\n<think>", ("think",), "</think>\n<answer>", ("answer",), "</answer>"),
        ]

    def reserve(self, size: int) -> int:
        """Bytes, and so tokens at most, of the form with sections of so many characters."""
        return sum(len(part) if isinstance(part, str) else _LONGEST_CHARACTER * size for part in self.parts)

    def regex(self, characters: int) -> str:
        """The whole form with about so many characters in its sections."""
        return "".join(re_escape(p) if isinstance(p, str) else self._free(p[0], characters) for p in self.parts)

    def rest(self, written: str, size: int = 16) -> str:
        """What may follow a beginning of the form, its sections of `size` characters: "" when it is complete.

        >>> Form(1).rest("<observe>A page</observe>\\n<evidence>\\n[1]: seven\\n</evidence>\\n<think>So")
        '</think>\\\\n<answer>[0-9A-Za-z\\\\u00c0-\\\\u1fff\\\\u3041-\\\\ud7a3][^<]{0,15}</answer>'
        """
        parts, place = self.parts, 0
        for i, part in enumerate(parts):
            tail = "".join(re_escape(p) if isinstance(p, str) else _bounded(p[0], size) for p in parts[i + 1 :])
            if isinstance(part, str):
                if not written.startswith(part, place):
                    return re_escape(part[len(written) - place :]) + tail
                place += len(part)
                continue
            ends = re.compile(r"[<\n]" if part == ("line",) else "<").search(written, place)
            if ends is None:
                return tail if len(written) > place else _bounded(part[0], size) + tail
            place = ends.start()
        return ""

    def _free(self, kind: Kind, characters: int) -> str:
        share = characters * _SHARES[kind] / (self.images if kind == "line" else 1)
        return _bounded(kind, max(16, int(share)))


class Guide:
    """Holds one answer to the form, also when it would be cut off: then its end is written by a second request.

    Args:
        form: The form.
        settings: How to write; at most `max_tokens` for both requests together.
    """

    def __init__(self, form: Form, settings: GenerationSettings) -> None:
        self._form, self._settings, self.written = form, settings, ""
        total = settings.max_tokens or 2048
        self._size = next((size for size in (16, 8, 4, 2) if form.reserve(size) <= total // 4), 1)
        self._reserve = form.reserve(self._size)
        if total <= self._reserve:
            raise SettingError(
                f"max_tokens is {total}; guided=True with {form.images} pages needs more than {self._reserve}."
            )
        self.first = dataclasses.replace(settings, max_tokens=total - self._reserve, guided=False)
        self.regex = form.regex((total - self._reserve) * CHARACTERS_PER_TOKEN)

    def add(self, text: str) -> None:
        """What was written."""
        self.written += text

    def rest(self, finish_reason: str | None) -> GenerationSettings | None:
        """How to write the end; None when the answer has one."""
        if finish_reason != "length":
            return None
        self.regex = self._form.rest(self.written, self._size)
        return dataclasses.replace(self.first, max_tokens=self._reserve, stop=()) if self.regex else None


def re_escape(text: str) -> str:
    r"""The text as a regular expression, in the words that every engine knows.

    >>> re_escape("\n[1]: <a>")
    '\\n\\[1\\]: <a>'
    """
    return re.sub(r"([\[\](){}.*+?|^$\\])", r"\\\1", text).replace("\n", r"\n")


def _bounded(kind: Kind, most: int) -> str:
    more = _MORE["line" if kind == "line" else "text"]
    return f"{_FIRST}{more}{{0,{most - 1}}}" if most > 1 else _FIRST
