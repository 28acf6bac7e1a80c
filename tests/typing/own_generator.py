"""A generator of a user's own, and where it goes: it must type-check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from visrag_integrations import PageRetriever, VisRAG
from visrag_integrations.langchain import ChatEVisRAG
from visrag_integrations.types import Conversation, Generation, GenerationSettings


class Mine:
    name = "mine"

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        return [Generation("yes") for _ in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        yield Generation("yes")


def answer(retriever: PageRetriever) -> str:
    return VisRAG(retriever, Mine()).ask("Is it so?").text


chat = ChatEVisRAG(generator=Mine(), temperature=0.2)
