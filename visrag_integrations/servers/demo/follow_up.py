"""A follow-up such as "and in 2020?" made into a question that can be searched for alone, by the model that answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from visrag_integrations.errors import VisRAGError
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.generators import generate, only_quotes
from visrag_integrations.servers.demo.conversation import KeptTurn
from visrag_integrations.types import GenerationSettings, Message

logger = logging.getLogger(__name__)

# What a follow-up refers to was said just before; more turns make the model pick up what nobody asks about any more.
_TURNS = 3
_ANSWER = 600  # characters of each earlier answer
_LONGEST = 400  # characters of a question; a longer text is an answer or an explanation
_SETTINGS = GenerationSettings(max_tokens=120, temperature=0.0)

_PROMPT = """Somebody asks about documents. Earlier in the conversation:

{earlier}

Their next message is:
{question}

Write this message as one question that can be understood without the conversation: put in the names and numbers \
that words such as "it", "they" or "there" stand for. Keep its language. If it can be understood alone already, repeat \
it as it is. Do not answer it. Write only the question."""


def can_follow(generator: Generator) -> bool:
    """Whether it can reword a question: one that only quotes cannot."""
    return not only_quotes(generator)


def standalone(question: str, earlier: Sequence[KeptTurn], generator: Generator) -> str:
    """The question as it can be searched for alone; as it is where there is nothing to put in, or rewording fails."""
    if not earlier or not can_follow(generator):
        return question
    conversation = (Message((_prompt(question, earlier),)),)
    try:
        (written,) = generate(generator, [conversation], _SETTINGS)
    except VisRAGError as err:
        logger.warning("a follow-up is searched for as it was typed: %s", err)
        return question
    return reworded(written.text) or question


def reworded(text: str) -> str:
    """The question in what a model wrote; "" where it wrote something else.

    >>> reworded('<think>They mean 2020.</think>\\nQuestion: "How high was it in 2020?"')
    'How high was it in 2020?'
    >>> reworded("<answer>4,200</answer>"), reworded("First I look at the page. " * 30)
    ('', '')
    """
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    # Tags are the form of an answer, and several lines are an explanation.
    if len(lines) != 1 or "<" in lines[0]:
        return ""
    question = re.sub(r"^(rewritten |standalone )?question:\s*", "", lines[0], flags=re.IGNORECASE)
    question = question.strip("\"'“”„‘’«»* ")
    if len(question) > _LONGEST or not any(map(str.isalnum, question)):
        return ""
    return "".join(letter for letter in question if letter.isprintable())


def _prompt(question: str, earlier: Sequence[KeptTurn]) -> str:
    told: list[str] = []
    for turn in earlier[-_TURNS:]:
        told.append(f"Question: {turn.meant}\nAnswer: {turn.text[:_ANSWER] or '(none)'}")
    return _PROMPT.format(earlier="\n\n".join(told), question=question)
