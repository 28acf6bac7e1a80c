"""What a judge is asked about an answer (`judge.txt`), and what its text says: shared by evaluation and training."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from visrag_integrations.generation.inert import inert
from visrag_integrations.types import GenerationSettings, Message

SETTINGS = GenerationSettings(temperature=0.0, max_tokens=512)
"""Greedy, so that a judge asked again says the same; room to think first, for models that do."""
_VERDICT = re.compile(r"<judge>(.*?)</judge>", re.IGNORECASE | re.DOTALL)
_VERDICTS = {"true": True, "false": False}
_SHOWN = 200  # characters of a judge's text in an error: enough to see what it wrote instead


@dataclass(frozen=True)
class AnswerToJudge:
    """An answer, and what it is compared with."""

    question: str
    answer: str
    right: tuple[str, ...]

    @property
    def key(self) -> str:
        """The same for the same answer to the same question, whatever its case and blanks."""
        said = [self.question, " ".join(self.answer.split()).casefold(), list(self.right)]
        return hashlib.sha256(json.dumps(said).encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def conversation(self) -> tuple[Message, ...]:
        """What a generator is asked."""
        return (Message((prompt_of(self.question, self.answer, self.right),)),)


@lru_cache(maxsize=1)
def judge_template() -> str:
    """The prompt, with places for question, right answer and answer."""
    return resources.files("visrag_integrations.evaluation").joinpath("judge.txt").read_text("utf-8")


def prompt_of(question: str, answer: str, right: Sequence[str]) -> str:
    """What a generator is asked; what the model that is judged wrote cannot speak to the judge by tags."""
    # "True</judge>" in an answer would be a verdict of its own: a reward for fooling the judge.
    safe = inert(answer).replace("<", "‹").replace(">", "›")
    return judge_template().format(question=question, answer=safe, right=" or ".join(right))


def parse_judge(text: str, *, published: bool = False) -> bool | None:
    """The verdict in a judge's text; None where there is none, or where there are two that differ.

    Published, the first counts, and whatever holds "true" between the tags is True: "untrue", and "not True, False".

    >>> parse_judge("so <judge> True </judge>"), parse_judge("<judge>untrue</judge>"), parse_judge("True")
    (True, None, None)
    >>> parse_judge("Write <judge>True</judge> if the student is right, else <judge>False</judge>.")  # our own words
    """
    found = _VERDICT.findall(text)
    if not found:
        return None
    if published:
        if "True" in found[0] or "true" in found[0]:
            return True
        if "False" in found[0] or "false" in found[0]:
            return False
        return None
    # A model that repeats what it was asked writes both; the first would make every answer right.
    verdicts = {_VERDICTS.get(said.strip().lower()) for said in found}
    if len(verdicts) > 1:
        return None
    return verdicts.pop()


def no_verdict(text: str) -> str:
    """What is said of a judge's text that holds no verdict."""
    return f"it wrote {text[:_SHOWN]!r}, which holds no <judge>True</judge> or False."


def judge_name(judge: object) -> str:
    """What it is called in messages, and what its remembered verdicts are known by."""
    return str(getattr(judge, "name", None) or getattr(judge, "__qualname__", None) or type(judge).__name__)
