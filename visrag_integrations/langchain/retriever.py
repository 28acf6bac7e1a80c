"""`VisRAGRetriever`: the core's retriever as a LangChain retriever."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables.config import run_in_executor
from pydantic import Field, field_validator

from visrag_integrations.errors import SettingError
from visrag_integrations.langchain.convert import found_page_to_document, hit_to_document, to_query
from visrag_integrations.types import Mode, Page, ScoredPage

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from typing_extensions import Self


class VisRAGRetriever(BaseRetriever):
    """Finds pages; gives Documents whose metadata says where they are from, how well they fit, and their picture.

    Every field is also an argument of one call (`invoke(question, k=3)`, `ainvoke` alike) and can be made configurable
    with `configurable_fields`. A question is a text, a `Query`, a picture, or `{"text": ..., "image": ...}`.

    >>> VisRAGRetriever(retriever=page_retriever, k=3).invoke("How many?")  # doctest: +SKIP
    """

    retriever: Any
    """A `PageRetriever`, or any object with its `retrieve`."""
    k: int = Field(default=5, ge=1)
    """At most so many pages."""
    filter: Any = None
    """Metadata the pages must have, for example `{"source": "report.pdf"}`."""
    score_threshold: float | None = None
    """Pages with a lower score are left out; for mode "dense" only."""
    mode: Mode | None = None
    """"dense", "lexical" or "hybrid"; the core retriever's own when None."""
    context_pages: int = Field(default=0, ge=0)
    """So many pages before and after each page that was found, in reading order."""
    inline_images: bool = False
    """Put the pictures themselves into the metadata, as data URLs."""

    @field_validator("retriever")
    @classmethod
    def _has_retrieve(cls, retriever: Any) -> Any:
        if not callable(getattr(retriever, "retrieve", None)):
            raise SettingError(
                f"retriever is {type(retriever).__name__}, without retrieve(). Give PageRetriever(embedder, store)."
            )
        return retriever

    @classmethod
    def from_index(
        cls,
        location: Any,
        embedder: Any = "openbmb/VisRAG-Ret",
        *,
        collection: str = "pages",
        **fields: Any,
    ) -> Self:
        """A retriever on an index that is already there.

        Args:
            location: A folder, the URL of a Qdrant server, or a `QdrantClient`.
            embedder: What filled it: a name, a checkpoint folder, or an embedder.
            collection: The collection's name.
            **fields: Of the retriever, for example `k=3`.
        """
        from visrag_integrations.embedders import load_embedder
        from visrag_integrations.retrieval import PageRetriever
        from visrag_integrations.store import QdrantPageStore

        loaded = load_embedder(embedder) if isinstance(embedder, (str, Path)) else embedder
        return cls(retriever=PageRetriever(loaded, QdrantPageStore(location, collection)), **fields)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        filter: Any = None,
        score_threshold: float | None = None,
        mode: Mode | None = None,
        context_pages: int | None = None,
        inline_images: bool | None = None,
    ) -> list[Document]:
        asked = {"filter": filter, "score_threshold": score_threshold, "mode": mode}
        own = {"filter": self.filter, "score_threshold": self.score_threshold, "mode": self.mode}
        given = {name: own[name] if value is None else value for name, value in asked.items()}
        settings = {name: value for name, value in given.items() if value is not None}
        hits = self.retriever.retrieve(to_query(query), self.k if k is None else k, **settings)
        around = self.context_pages if context_pages is None else context_pages
        inline = self.inline_images if inline_images is None else inline_images
        if not around:
            return [hit_to_document(hit, inline_images=inline) for hit in hits]
        return self._with_context(hits, around, inline)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
        filter: Any = None,
        score_threshold: float | None = None,
        mode: Mode | None = None,
        context_pages: int | None = None,
        inline_images: bool | None = None,
    ) -> list[Document]:
        return await run_in_executor(
            None,
            self._get_relevant_documents,
            query,
            k=k,
            filter=filter,
            score_threshold=score_threshold,
            mode=mode,
            context_pages=context_pages,
            inline_images=inline_images,
        )

    def _with_context(self, hits: Sequence[ScoredPage], around: int, inline: bool) -> list[Document]:
        """Each hit with its neighbours in reading order; no page twice, and a hit is never a neighbour."""
        found = {hit.page.id for hit in hits}
        wanted = {hit.page.id: _neighbours(hit.page, around) for hit in hits}
        missing = dict.fromkeys(page.id for pages in wanted.values() for page in pages if page.id not in found)
        stored = {page.id: page for page in self._store().get_pages(list(missing))}
        documents: list[Document] = []
        for hit in hits:
            own = hit_to_document(hit, inline_images=inline)
            near = [stored.pop(page.id) for page in wanted[hit.page.id] if page.id in stored]
            beside = [found_page_to_document(page, inline_images=inline) for page in near]
            for document in beside:
                document.metadata["context_of"] = own.id
            before = sum(1 for page in near if page.number < hit.page.number)
            documents += [*beside[:before], own, *beside[before:]]
        return documents

    def _store(self) -> Any:
        store = getattr(self.retriever, "store", None)
        if store is None:
            raise SettingError(
                f"context_pages needs a store; {type(self.retriever).__name__} has none. Use a PageRetriever."
            )
        return store

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        embedder, store = (getattr(self.retriever, name, None) for name in ("embedder", "store"))
        if store is not None:
            params["ls_vector_store_provider"] = type(store).__name__
        if embedder is not None:
            params["ls_embedding_provider"] = type(embedder).__name__
            params["ls_embedding_model"] = str(embedder.name)
        return params


def _neighbours(page: Page, around: int) -> list[Page]:
    """The pages beside this one that may exist, in reading order; only their ids matter."""
    if page.given_id:
        return []
    first = max(1, page.number - around)
    numbers = [number for number in range(first, page.number + around + 1) if number != page.number]
    return [dataclasses.replace(page, number=number, picture=None, words=(), metadata={}) for number in numbers]
