"""EVisRAG's answer format as a regular expression for engines that hold a model to one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from visrag_integrations.errors import SettingError
from visrag_integrations.types import Conversation, GenerationSettings

# English text has about four to a token. Where it is fewer (Chinese), the limits never bind and the tokens run out:
# the end is then written by the second request.
CHARACTERS_PER_TOKEN = 4
"""What a token is taken for when the sections get their limits."""
# Of all characters; "line" is for all evidence lines together. An answer is short; the three others get the same, so
# that no section can use up the tokens of those that follow.
_SHARES = {"observe": 0.3, "line": 0.3, "think": 0.3, "answer": 0.1}
_FIRST = r"[0-9A-Za-z\u00c0-\u1fff\u3041-\ud7a3]"  # a section begins with a letter or a digit, so it is never blank
_MORE = {"text": r"[^<]", "line": r"[^<\[\n\r]"}
_LINE_END = re.compile(r"[<\n]")
_TEXT_END = re.compile("<")
_LONGEST_CHARACTER = 4  # bytes, and a token is at least one

SlotName = Literal["observe", "line", "think", "answer"]


class Slot(NamedTuple):
    """A place in the format where the model writes freely."""

    name: SlotName


@dataclass(frozen=True)
class AnswerFormat:
    """The four sections, with one evidence line for each picture.

    Attributes:
        images: How many pictures there are.
    """

    images: int

    @classmethod
    def of(cls, conversation: Conversation) -> AnswerFormat:
        """The form of the answer to a conversation.

        Raises:
            SettingError: It shows no page.
        """
        images = 0
        for message in conversation:
            images += sum(not isinstance(part, str) for part in message.content)
        if not images:
            raise SettingError("guided=True is for questions about pages, and this conversation shows none.")
        return cls(images)

    @property
    def parts(self) -> list[str | Slot]:
        """What is fixed, as text, and what is free, as a slot."""
        parts: list[str | Slot] = ["<observe>", Slot("observe"), "</observe>\n<evidence>"]
        for number in range(1, self.images + 1):
            parts += [f"\n[{number}]: ", Slot("line")]
        parts += ["\n</evidence>\n<think>", Slot("think"), "</think>\n<answer>", Slot("answer"), "</answer>"]
        return parts

    def reserve(self, size: int) -> int:
        """Bytes, and so tokens at most, of the format with sections of so many characters."""
        fixed = sum(len(part) for part in self.parts if isinstance(part, str))
        slots = sum(isinstance(part, Slot) for part in self.parts)
        return fixed + slots * _LONGEST_CHARACTER * size

    def regex(self, characters: int) -> str:
        """The whole format with about so many characters in its sections."""
        pattern = ""
        for part in self.parts:
            if isinstance(part, str):
                pattern += re_escape(part)
                continue
            share = characters * _SHARES[part.name]
            if part.name == "line":
                share /= self.images
            pattern += _bounded(part, max(16, int(share)))
        return pattern

    def rest(self, written: str, size: int = 16) -> str:
        """What may follow a beginning of the format, its sections of `size` characters: "" when it is complete.

        >>> AnswerFormat(1).rest("<observe>A page</observe>\\n<evidence>\\n[1]: seven\\n</evidence>\\n<think>So")
        '</think>\\\\n<answer>[0-9A-Za-z\\\\u00c0-\\\\u1fff\\\\u3041-\\\\ud7a3][^<]{0,15}</answer>'
        """
        parts = self.parts
        place = 0  # how much of `written` is accounted for
        for number, part in enumerate(parts, start=1):
            if isinstance(part, str):
                if not written.startswith(part, place):
                    return re_escape(part[len(written) - place :]) + _pattern(parts[number:], size)
                place += len(part)
                continue
            end = (_LINE_END if part.name == "line" else _TEXT_END).search(written, place)
            if end is None:  # the text ends inside this section, which must not stay empty
                begin = "" if len(written) > place else _bounded(part, size)
                return begin + _pattern(parts[number:], size)
            place = end.start()
        return ""


class GuidedAnswer:
    """Holds one answer to the format, also when it would be cut off: then its end is written by a second request.

    Args:
        answer_format: The format.
        settings: How to write; at most `max_tokens` for both requests together.
    """

    def __init__(self, answer_format: AnswerFormat, settings: GenerationSettings) -> None:
        self._format = answer_format
        self.written = ""
        total = settings.max_tokens or 2048
        # Characters of each section in the second request: as many as a quarter of the tokens holds.
        fitting = [size for size in (16, 8, 4, 2) if answer_format.reserve(size) <= total // 4]
        self._size = max(fitting, default=1)
        self._reserve = answer_format.reserve(self._size)
        if total <= self._reserve:
            raise SettingError(
                f"max_tokens is {total}; guided=True with {answer_format.images} pages needs more than {self._reserve}."
            )
        self.first = dataclasses.replace(settings, max_tokens=total - self._reserve, guided=False)
        self.regex = answer_format.regex((total - self._reserve) * CHARACTERS_PER_TOKEN)

    def add(self, text: str) -> None:
        """What was written."""
        self.written += text

    def rest(self, finish_reason: str | None) -> GenerationSettings | None:
        """How to write the end; None when the answer has one."""
        if finish_reason != "length":
            return None
        self.regex = self._format.rest(self.written, self._size)
        if not self.regex:
            return None
        return dataclasses.replace(self.first, max_tokens=self._reserve, stop=())


@dataclass(frozen=True)
class PartRequest:
    """One request for an answer or a part of it."""

    settings: GenerationSettings
    regex: str | None = None  # what the text is held to
    written: str = ""  # the beginning of the answer, which the text goes on from


async def answer_pieces(
    conversation: Conversation,
    settings: GenerationSettings,
    ask: Callable[[PartRequest], AsyncGenerator[str, None]],
    finish_reason: Callable[[], str | None],
) -> AsyncGenerator[str, None]:
    """The pieces of an answer from one request, or from two where `guided` has to bring it to its end.

    Args:
        conversation: What is asked.
        settings: How to write.
        ask: Sends a request and gives its pieces.
        finish_reason: How the last request ended.
    """
    if not settings.guided:
        async for piece in ask(PartRequest(settings)):
            yield piece
        return
    guided = GuidedAnswer(AnswerFormat.of(conversation), settings)
    async for piece in ask(PartRequest(guided.first, guided.regex)):
        guided.add(piece)
        yield piece
    rest = guided.rest(finish_reason())
    if rest is not None:
        async for piece in ask(PartRequest(rest, guided.regex, guided.written)):
            yield piece


def re_escape(text: str) -> str:
    r"""The text as a regular expression, in the words that every engine knows.

    >>> re_escape("\n[1]: <a>")
    '\\n\\[1\\]: <a>'
    """
    return re.sub(r"([\[\](){}.*+?|^$\\])", r"\\\1", text).replace("\n", r"\n")


def _pattern(parts: Sequence[str | Slot], size: int) -> str:
    """What matches these parts, with at most so many characters in each slot."""
    pattern = ""
    for part in parts:
        pattern += re_escape(part) if isinstance(part, str) else _bounded(part, size)
    return pattern


def _bounded(slot: Slot, most: int) -> str:
    if most == 1:
        return _FIRST
    more = _MORE["line" if slot.name == "line" else "text"]
    return f"{_FIRST}{more}{{0,{most - 1}}}"
