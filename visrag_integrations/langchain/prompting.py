"""A user's question with images, put as EVisRAG was trained on it."""

from __future__ import annotations

import dataclasses

from visrag_integrations.generation.evisrag import build_prompt, question_of
from visrag_integrations.types import Conversation, Page


def wrap_question(conversation: Conversation) -> tuple[Conversation, list[Page] | None]:
    """The conversation with its last turn as EVisRAG's prompt, and the pages it shows; (as it is, None) without any.

    >>> from visrag_integrations.types import Message
    >>> wrapped, pages = wrap_question((Message((Page("d", 1), "How many?")),))
    >>> wrapped[0].content[0] == build_prompt("How many?"), pages == [Page("d", 1)]
    (True, True)
    """
    last = conversation[-1] if conversation else None
    if last is None or last.role != "user" or not last.pages:
        return conversation, None
    asked = last.text
    prompt = build_prompt(asked) if question_of(asked) == asked else asked
    turn = dataclasses.replace(last, content=(prompt, *last.pages))
    return (*conversation[:-1], turn), list(last.pages)
