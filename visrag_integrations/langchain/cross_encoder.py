"""`VisRAGCrossEncoderReranker`: Documents scored anew by a model that reads the question and the page together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, model_validator

from visrag_integrations.errors import SettingError
from visrag_integrations.langchain.convert import document_to_page, to_query
from visrag_integrations.langchain.opening import check_fields
from visrag_integrations.rerankers.opened import OpenedRerankers
from visrag_integrations.types import ScoredPage

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from visrag_integrations.rerankers import CrossEncoderReranker


class VisRAGCrossEncoderReranker(BaseDocumentCompressor):
    """Orders Documents by what a cross-encoder, here or behind a URL, says of their text, picture, or both.

    The score stands in `metadata["relevance_score"]` of new Documents; those given stay as they are.

    >>> VisRAGCrossEncoderReranker(model="BAAI/bge-reranker-v2-m3", top_n=3)  # doctest: +SKIP
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: Any
    """A model's name, folder or URL, a `sentence_transformers.CrossEncoder`, or a `CrossEncoderReranker`."""
    url: str | None = None
    """The server that has the model: `/rerank`, or vLLM's `/score`."""
    api_key: SecretStr | None = None
    """The server's key."""
    reads: Literal["auto", "text", "image", "both"] = "auto"
    """What the model is shown of a Document."""
    min_score: float | None = None
    """Documents with a lower score are left out."""
    top_n: int | None = Field(default=3, ge=1)
    """At most so many; all when None."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Other arguments of `CrossEncoderReranker`, for example `{"device": "cuda"}`."""
    _opened: OpenedRerankers = PrivateAttr(default_factory=OpenedRerankers)

    @model_validator(mode="before")
    @classmethod
    def _knows_all(cls, fields: Any) -> Any:
        hints = {
            "top_k": "so many Documents are top_n.",
            "embedder": "an embedder orders Documents in VisRAGReranker; here it is model.",
            "device": 'it goes into settings, settings={"device": ...}.',
        }
        check_fields(cls, fields, hints)
        return fields

    def compress_documents(
        self, documents: Sequence[Document], query: Any, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The best Documents, best first."""
        if not documents:
            return []
        # By the page that each Document became: two Documents may be pieces of one page, with one id.
        places: dict[int, Document] = {}
        hits: list[ScoredPage] = []
        for document in documents:
            page = document_to_page(document)
            places[id(page)] = document
            hits.append(ScoredPage(page, 0.0))
        best = []
        for hit in self._reranker().rerank(to_query(query), hits, self.top_n):
            document = places[id(hit.page)]
            metadata = {**document.metadata, "relevance_score": hit.score}
            best.append(Document(id=document.id, page_content=document.page_content, metadata=metadata))
        return best

    def close(self) -> None:
        """Let go of the model, unless it was given as a `CrossEncoderReranker`. A later call loads it again."""
        self._opened.close()

    def _reranker(self) -> CrossEncoderReranker:
        """Loaded at first use.

        Raises:
            SettingError: The model is a `CrossEncoderReranker`, which has its settings, and others are given.
        """
        if not isinstance(self.model, (str, Path)):
            defaults: dict[str, Any] = {
                "url": None,
                "api_key": None,
                "reads": "auto",
                "min_score": None,
                "settings": {},
            }
            given = [name for name, default in defaults.items() if getattr(self, name) != default]
            if given:
                raise SettingError(
                    f"{', '.join(given)}: the model is a reranker with settings of its own. Give them to it."
                )
        settings = {"url": self.url, "reads": self.reads, "min_score": self.min_score, **self.settings}
        if self.api_key is not None:
            settings["api_key"] = self.api_key.get_secret_value()
        return self._opened.get(self.model, settings)
