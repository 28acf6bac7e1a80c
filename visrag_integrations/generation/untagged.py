"""What a model wrote outside the tags, where it is an answer all the same: no tags at all, JSON, "Answer: 7"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from visrag_integrations.generation.events import Section
from visrag_integrations.generation.json_answers import sections_in

# "Answer: 7", "**Final answer:** 7", "答案：7", at the beginning of a line.
_LABEL = re.compile(
    r"^[ \t>*_#-]{0,8}(?:the )?(?:(?:my |short |final )?answer(?: is)?|antwort|réponse|respuesta|resposta|risposta|"
    r"antwoord|ответ|відповідь|odpowied[źz]|odpověď|svar|vastaus|válasz|cevap|yanıt|jawaban|câu trả lời|الجواب|"
    r"الإجابة|उत्तर|คำตอบ|最终答案|答案|答|回答|最終回答|정답|답변|답)[*_ \t]{0,4}[:：][*_]{0,3}",
    re.IGNORECASE | re.MULTILINE,
)


class Untagged(NamedTuple):
    """Sections that a model did not tag.

    Attributes:
        sections: In the order in which they were written; the content is text, or what JSON gave.
        left: The text that is in none of them.
        problem: What was done, in words; "" when nothing was.
    """

    sections: tuple[tuple[Section, Any], ...] = ()
    left: str = ""
    problem: str = ""


@dataclass
class OutsideText:
    """Collects the text outside the tags, and what stood before it."""

    _parts: list[str] = field(default_factory=list)
    _since: list[str] = field(default_factory=list)  # after the last tag
    _tagged: bool = False
    _opened: bool = False  # whether any section was
    _last: str = ""  # the last tag, where it closes a section or would close one
    _only_think: bool = True  # whether no other tag came than "</think>"

    def add(self, text: str) -> None:
        """Text outside of all sections."""
        self._since.append(text)

    def open(self) -> None:
        """A section begins."""
        self._tag("")
        self._opened = True
        self._only_think = False

    def close(self, tag: str) -> None:
        """A closing tag ended a section, or stands where it ends none."""
        self._tag(tag)
        self._only_think = self._only_think and tag == "</think>"

    def _tag(self, tag: str) -> None:
        self._parts += self._since
        self._since = []
        self._tagged = True
        self._last = tag

    def read(self, *, answered: bool, cut_off: bool) -> Untagged:
        """The sections in it.

        Args:
            answered: Whether the model wrote an answer in its tags; then nothing more is looked for.
            cut_off: Whether the text ended at a token limit. Without any tag, it was cut off before its answer.
        """
        before, since = "".join(self._parts), "".join(self._since)
        if not self._tagged:
            return _without_tags(since, cut_off=cut_off)
        if answered or not self._last or not since.strip():
            return Untagged(left=before + since)
        labels = list(_LABEL.finditer(since))
        if labels:
            last = labels[-1]  # as of several answers in tags
            answer = _without_half_of_bold(since[last.end() :])
            if answer:
                left = before + since[: last.start()]
                return Untagged((("answer", answer),), left, "the answer stands outside its tags")
        if self._last != "</think>":
            return Untagged(left=before + since)
        problem = "the answer stands outside its tags, behind </think>"
        if self._opened:
            return Untagged((("answer", since.strip()),), before, problem)
        if self._only_think:  # a chat template may write "<think>" into the prompt
            return Untagged((("think", before.strip()), ("answer", since.strip())), "", problem)
        return Untagged(left=before + since)


def _without_tags(text: str, *, cut_off: bool) -> Untagged:
    sections = sections_in(text)
    if sections:
        return Untagged(tuple(sections.items()), "", "the text is JSON, without tags")
    if cut_off or not text.strip():
        return Untagged(left=text)
    return Untagged((("answer", text.strip()),), "", "the text has no tags: all of it is taken for the answer")


def _without_half_of_bold(text: str) -> str:
    text = text.strip()
    if text.count("**") % 2:
        text = text.removesuffix("**").removeprefix("**").strip()
    return text
