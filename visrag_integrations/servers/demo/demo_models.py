"""The models behind the page: what embeds, what answers, and what a visitor may choose among them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visrag_integrations.agent import VRAGAgent
from visrag_integrations.embedders import load_embedder
from visrag_integrations.errors import UnknownNameError
from visrag_integrations.interfaces import Filter, Generator, PageEmbedder
from visrag_integrations.interfaces.closing import close
from visrag_integrations.rag import VisRAG
from visrag_integrations.retrieval import PageRetriever
from visrag_integrations.servers.demo.visitor_choices import Choices
from visrag_integrations.servers.demo.words import shown_name
from visrag_integrations.store import QdrantPageStore
from visrag_integrations.store.info import EmbedderInfo


class LoadedEmbedders:
    """The embedders of knowledge bases that another one filled than the demo's own; each is loaded once.

    Args:
        load: Loads one by what a collection remembers of it; as any other where None.
    """

    def __init__(self, load: Callable[[EmbedderInfo], PageEmbedder] | None = None) -> None:
        self._load = load or _load_shared
        self._guard = threading.Lock()
        self._embedders: dict[tuple[str, str], PageEmbedder] = {}

    def get(self, info: EmbedderInfo) -> PageEmbedder:
        """The embedder that filled a collection."""
        # A server's model may give one vector a page, or many: the name alone does not say which.
        key = (info.embedder, info.kind)
        with self._guard:
            if key not in self._embedders:
                self._embedders[key] = self._load(info)
            return self._embedders[key]

    def close(self) -> None:
        """Let go of all of them."""
        with self._guard:
            while self._embedders:
                close(self._embedders.popitem()[1])


def _load_shared(info: EmbedderInfo) -> PageEmbedder:
    settings: dict[str, Any] = {}
    if info.embedder.startswith("endpoint:"):
        settings["kind"] = info.kind  # every other embedder knows its own
    return load_embedder(info.embedder, shared=True, **settings)


@dataclass(frozen=True)
class Models:
    """What embeds and what answers, for all knowledge bases.

    Attributes:
        embedder: Fills new knowledge bases.
        generator: Writes the answers unless a visitor chooses another one.
        answering: Other arguments of `VisRAG`: `strategy`, `prompt`, `top_k`, `settings`.
        load_embedder: Finds the embedder of a base that another one filled.
        searching: Other arguments of `PageRetriever`: `reranker`, `candidates`.
        others: More generators that visitors may choose.
    """

    embedder: PageEmbedder
    generator: Generator
    answering: Mapping[str, Any] = field(default_factory=dict)
    load_embedder: Callable[[EmbedderInfo], PageEmbedder] | None = None
    searching: Mapping[str, Any] = field(default_factory=dict)
    others: Sequence[Generator] = ()

    @property
    def generators(self) -> dict[str, Generator]:
        """All that visitors may choose, by name; the usual one first."""
        named: dict[str, Generator] = {}
        # Two of one name would look the same in the list: the first one counts.
        for generator in (self.generator, *self.others):
            named.setdefault(shown_name(generator.name), generator)
        return named

    def generator_called(self, name: str) -> Generator:
        """The generator of that name; the usual one for "".

        Raises:
            UnknownNameError: It is none of those that are offered: visitors load no models.
        """
        if not name:
            return self.generator
        found = self.generators.get(name)
        if found is None:
            raise UnknownNameError(f"There is no model called {name[:80]!r} here. Choose one from the list.")
        return found

    def embedder_for(self, store: QdrantPageStore) -> PageEmbedder:
        """The embedder that filled the store, or is to fill it."""
        info = store.info
        if info is None or info.embedder == self.embedder.name or self.load_embedder is None:
            return self.embedder
        return self.load_embedder(info)

    def retriever(self, store: QdrantPageStore, choices: Choices, only: Filter | None = None) -> PageRetriever:
        """What finds pages of this store, as a visitor chose."""
        return PageRetriever(self.embedder_for(store), store, mode=choices.mode, filter=only, **self.searching)

    def rag(self, store: QdrantPageStore, choices: Choices | None = None, only: Filter | None = None) -> VisRAG:
        """What answers from this store."""
        choices = choices or Choices()
        answering = dict(self.answering)
        if choices.top_k is not None:
            answering["top_k"] = choices.top_k
        return VisRAG(self.retriever(store, choices, only), self.generator_called(choices.model), **answering)

    def agent(self, store: QdrantPageStore, choices: Choices, only: Filter | None, turns: int) -> VRAGAgent:
        """What searches this store by itself, in at most so many turns."""
        # A checkpoint remembers how many turns it was trained with; a visitor gets no more than the demo allows.
        generator = self.generator_called(choices.model)
        agent = VRAGAgent(self.retriever(store, choices, only), generator, settings=self.answering.get("settings"))
        if agent.rules.max_turns <= turns:
            return agent
        return VRAGAgent(agent.retriever, generator, turns, settings=self.answering.get("settings"))
