"""What finds pages for a question, and what it may have beside `retrieve`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations.errors import VisRAGError
from visrag_integrations.types import Query, ScoredPage

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter


class Retriever(Protocol):
    """What answers are made with; `PageRetriever` is one."""

    def retrieve(self, query: str, top_k: int = 5, *, filter: Filter | None = None) -> Sequence[ScoredPage]: ...


class Reranker(Protocol):
    """Scores pages anew, whoever found them; `PageReranker` and `CrossEncoderReranker` are two."""

    def rerank(self, query: str | Query, hits: Sequence[ScoredPage], top_k: int | None = None) -> list[ScoredPage]: ...


class RetrievesMany(Protocol):
    """Embeds the queries of many searches together."""

    def retrieve_many(
        self, queries: Sequence[str | Query], top_k: int = 5, *, filter: Filter | None = None
    ) -> Sequence[Sequence[ScoredPage]]: ...


def retrieve_many(
    retriever: Retriever, queries: Sequence[str | Query], top_k: int, **arguments: Any
) -> list[Sequence[ScoredPage]]:
    """The pages of every query, in order; one by one where it has no `retrieve_many` (`RetrievesMany`)."""
    many = getattr(retriever, "retrieve_many", None)
    if many is not None:
        return list(many(queries, top_k, **arguments))
    return [retriever.retrieve(query, top_k, **arguments) for query in queries]  # type: ignore[arg-type]


class SearchesAStore(Protocol):
    """Searches one store, which can say how many pages it has."""

    store: Any


def nothing_found(retriever: Retriever | None = None) -> str:
    """Why a search found no page, as an answer's problem; that nothing was indexed yet where that can be seen."""
    if _is_empty(getattr(retriever, "store", None)):
        return "no page was found: the index is empty. index_documents([...], store=..., embedder=...) fills it"
    return "no page was found: the index is empty, or nothing in it matches the question and the filter"


def reranker_name(retriever: object) -> str | None:
    """What tells a reranker's results from another one's: its embedder or model, what that reads, and of how many.

    None where there is none, or it has no name. Read with defaults throughout: a user's own may have `rerank` alone.
    """
    reranker = getattr(retriever, "reranker", None)
    embedder = getattr(reranker, "embedder", None)
    name = getattr(embedder, "name", None)
    if name is None:
        name = getattr(reranker, "name", None)
    if name is None:
        return None
    said = [str(name)]
    for setting in ("reads", "min_score"):
        value = getattr(reranker, setting, None)
        if value is not None:
            said.append(f"{setting}={value}")
    candidates = getattr(retriever, "candidates", None)
    if candidates is not None:
        said.append(f"candidates={candidates}")
    return ", ".join(said)


def _is_empty(store: object) -> bool:
    """Whether it says that it holds no page; False where it cannot be asked."""
    count = getattr(store, "count", None)
    if not callable(count):
        return False
    try:
        return bool(count() == 0)
    except (TypeError, VisRAGError):  # a list counts otherwise; a server may be away by now
        return False


def is_retriever(value: object) -> bool:
    """Whether it has a `retrieve`, as `Retriever` says."""
    return callable(getattr(value, "retrieve", None))
