"""`VisRAGRetriever`: the core's retriever as a LangChain retriever."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables.config import run_in_executor
from pydantic import Field, PrivateAttr, field_validator, model_validator

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.opened import OpenedResources, model_behind
from visrag_integrations.interfaces.retrievers import is_retriever
from visrag_integrations.interfaces.stores import shown_filter, store_of_tenant
from visrag_integrations.langchain.convert import found_page_to_document, hit_to_document, to_query
from visrag_integrations.langchain.embeddings import as_page_embedder
from visrag_integrations.langchain.opening import check_fields, open_store
from visrag_integrations.types import Mode, Page, ScoredPage

if TYPE_CHECKING:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from typing_extensions import Self


class VisRAGRetriever(BaseRetriever):
    """Finds pages; gives Documents whose metadata says where they are from, and their picture.

    The Document of a page is the same whatever was asked, so that LangChain can tell that two questions found one page.

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
    with_scores: bool = False
    """Add `score` and `score_type` to the metadata, and `context_of` (the id of the page it stands beside) to those of
    a neighbour. The Documents of one page then differ from question to question."""
    tenant: str = ""
    """Only this tenant's pages are found, whatever a filter says. The one field that no call can change."""
    _opened: OpenedResources = PrivateAttr(default_factory=OpenedResources)

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, fields: Any) -> Any:
        check_fields(cls, fields, {"top_k": "so many pages are k.", "search_kwargs": "its entries are fields here."})
        return fields

    @model_validator(mode="after")
    def _narrowed(self) -> Self:
        # In the retriever itself, below every filter: no call can leave it out.
        if self.tenant:
            self.retriever = _of_tenant(self.retriever, self.tenant)
        return self

    @field_validator("retriever")
    @classmethod
    def _has_retrieve(cls, retriever: Any) -> Any:
        if not is_retriever(retriever):
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
        collection: str | None = None,
        collection_name: str | None = None,
        tenant: str = "",
        **fields: Any,
    ) -> Self:
        """A retriever on an index that is already there; `close` it when it is no longer needed.

        Args:
            location: A folder, the URL of a Qdrant server, or a `QdrantClient`.
            embedder: What filled it: a name, a checkpoint folder, an embedder, or LangChain Embeddings.
            collection: The collection's name; "pages" when None.
            collection_name: The same, as langchain-qdrant calls it.
            tenant: Whose pages are found. See the class.
            **fields: Of the retriever, for example `k=3`.
        """
        from visrag_integrations.retrieval import PageRetriever

        named = {"location": location, "collection": collection, "collection_name": collection_name}
        opened = OpenedResources()
        try:
            page_embedder = as_page_embedder(embedder, opened)
            store = opened.keep(open_store("from_index()", named))
            made = cls(retriever=PageRetriever(page_embedder, store), tenant=tenant, **fields)
        except BaseException:
            opened.close()  # a folder that stayed open could not be opened again
            raise
        made._opened = opened
        return made

    def close(self) -> None:
        """Let go of the model and close the store that `from_index` opened; what was given stays open.

        The retriever cannot be used afterwards.
        """
        self._opened.close()

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
        with_scores: bool | None = None,
    ) -> list[Document]:
        around = self._own_if_none("context_pages", context_pages)
        form = {
            "inline_images": self._own_if_none("inline_images", inline_images),
            "with_scores": self._own_if_none("with_scores", with_scores),
        }
        settings = {}
        for name, given in (("filter", filter), ("score_threshold", score_threshold), ("mode", mode)):
            value = self._own_if_none(name, given)
            # LangChain's users name keys as the metadata show them: `page` from 0.
            if name == "filter":
                value = shown_filter(getattr(self.retriever, "store", None), value)
            if value is not None:  # a retriever of the user's own may know none of the three
                settings[name] = value
        hits = self.retriever.retrieve(to_query(query), self._own_if_none("k", k), **settings)
        if around:
            return self._with_context(hits, around, **form)
        return [hit_to_document(hit, **form) for hit in hits]

    def _own_if_none(self, field: str, given: Any) -> Any:
        """What one call says; the retriever's own field where it says nothing."""
        return getattr(self, field) if given is None else given

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **settings: Any
    ) -> list[Document]:
        return await run_in_executor(None, self._get_relevant_documents, query, **settings)

    def _with_context(
        self, hits: Sequence[ScoredPage], around: int, *, inline_images: bool, with_scores: bool
    ) -> list[Document]:
        """Each hit with its neighbours in reading order; no page twice, and a hit is never a neighbour.

        One page around, hits 4 and 6 (best first): 3 4 5, then 6 7; page 5 stands beside the better hit.
        """
        found = {hit.page.id for hit in hits}
        neighbours = {hit.page.id: _neighbours(hit.page, around) for hit in hits}
        wanted: dict[str, None] = {}  # a set that keeps the order
        for pages in neighbours.values():
            for page in pages:
                if page.id not in found:
                    wanted[page.id] = None
        stored = {page.id: page for page in self._store().get_pages(list(wanted))}
        documents: list[Document] = []
        for hit in hits:
            own = hit_to_document(hit, inline_images=inline_images, with_scores=with_scores)
            before: list[Document] = []
            after: list[Document] = []
            for neighbour in neighbours[hit.page.id]:
                page = stored.pop(neighbour.id, None)
                if page is not None:  # else not there, a hit itself, or beside a better one already
                    document = found_page_to_document(page, inline_images=inline_images)
                    if with_scores:
                        document.metadata["context_of"] = own.id
                    side = before if page.number < hit.page.number else after
                    side.append(document)
            documents += [*before, own, *after]
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
        store = getattr(self.retriever, "store", None)
        if store is not None:
            params["ls_vector_store_provider"] = type(store).__name__
        embedder = getattr(self.retriever, "embedder", None)
        if embedder is not None:
            # The class of the model itself, not that of a handle on it.
            params["ls_embedding_provider"] = type(model_behind(embedder)).__name__
            params["ls_embedding_model"] = str(embedder.name)
        return params


def _of_tenant(retriever: Any, tenant: str) -> Any:
    """A copy of the retriever that finds this tenant's pages only; it shares the model and the connection."""
    store = getattr(retriever, "store", None)
    if store is None:
        raise SettingError(
            f"tenant={tenant!r} needs a retriever with a store, and {type(retriever).__name__} has none. Use a "
            "PageRetriever."
        )
    narrowed = copy.copy(retriever)
    narrowed.store = store_of_tenant(store, tenant)
    return narrowed


def _neighbours(page: Page, around: int) -> list[Page]:
    """The pages beside this one that may exist, in reading order; only their ids matter."""
    if page.given_id:  # an id of another loader's: it does not tell those of its neighbours
        return []
    neighbours = []
    for number in range(max(1, page.number - around), page.number + around + 1):
        if number != page.number:
            neighbours.append(dataclasses.replace(page, number=number, picture=None, words=(), metadata={}))
    return neighbours
