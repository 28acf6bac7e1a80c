"""What a page store may have beside the members of `PageStore`, and what is done where it has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from visrag_integrations.errors import SettingError
from visrag_integrations.types import Page

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Embedding, Filter, PageEmbedder, PageStore


class GivesEmbeddings(Protocol):
    """Gives back stored vectors, so that they need not be made again."""

    def get_embeddings(
        self, ids: Sequence[str], embedder: PageEmbedder | None = None, *, as_made: bool = False
    ) -> Mapping[str, Embedding]: ...


class KnowsEquals(Protocol):
    """Gives the vectors of stored pages with the same picture and text, so that equal pages are embedded once."""

    def embeddings_of_equals(self, pages: Sequence[Page]) -> Mapping[str, Any]: ...


class HasInfo(Protocol):
    """Says who filled it; None as long as there is no collection."""

    @property
    def info(self) -> Any: ...


class ChecksEmbedders(Protocol):
    """Says whether an embedder fills it, and writes nothing while it looks."""

    def check(self, embedder: PageEmbedder) -> None: ...


class HasTenants(Protocol):
    """Can show the pages of one tenant only."""

    @property
    def tenant(self) -> str: ...
    def of_tenant(self, tenant: str) -> PageStore: ...


class FiltersAsShown(Protocol):
    """Reads a filter in "$metadata" as one on what hosts show, and "$doc_ids" as one on `Page.doc_id`."""

    filters_as_shown: bool


class ExplainsFilters(Protocol):
    """Says which key or value of a filter no page has."""

    def why_nothing(self, filter: Filter, within: Filter | None = None, show: Callable[[str], str] = str) -> str: ...


def gives_embeddings(store: object) -> bool:
    """Whether it gives stored vectors back (`GivesEmbeddings`)."""
    return callable(getattr(store, "get_embeddings", None))


def stored_embeddings(
    store: object, ids: Sequence[str], embedder: PageEmbedder | None = None, *, as_made: bool = False
) -> Mapping[str, Embedding]:
    """The stored vectors by id, of those ids that are stored; none where it gives none (`GivesEmbeddings`).

    Args:
        store: Any store.
        ids: Of pages (`Page.id`).
        embedder: Whose vectors, where two filled the collection.
        as_made: Every vector as the embedder made it, never pooled; an id without them is left out.
    """
    get_embeddings = getattr(store, "get_embeddings", None)
    if get_embeddings is None:
        return {}
    found: Mapping[str, Embedding] = (
        get_embeddings(ids, embedder, as_made=True) if as_made else get_embeddings(ids, embedder)
    )
    return found


def embeddings_of_equals(store: object, pages: Sequence[Page]) -> Mapping[str, Any]:
    """Vectors of stored pages that are equal to one of these, by `content_key`; none without `KnowsEquals`."""
    equals = getattr(store, "embeddings_of_equals", None)
    if equals is None:
        return {}
    found: Mapping[str, Any] = equals(pages)
    return found


def filled_by(store: PageStore) -> Any:
    """What it says of who filled it (`HasInfo`): None where nobody did, True where it does not say."""
    return getattr(store, "info", True)


def check_embedder(store: PageStore, embedder: PageEmbedder) -> None:
    """Nothing when this embedder fills the store: by a look (`ChecksEmbedders`), or else by `prepare`.

    Raises:
        StoreMismatchError: Another one does.
    """
    check = getattr(store, "check", None)
    if callable(check):
        check(embedder)
    else:
        store.prepare(embedder)


def tenant_of(store: object) -> str:
    """Whose store it is; "" where it holds everybody's pages (`HasTenants`)."""
    return str(getattr(store, "tenant", ""))


def page_for(store: object, page: Page) -> Page:
    """The page as this store will hold it: one of no tenant becomes its tenant's, and has another id then."""
    tenant = tenant_of(store)
    if not tenant or page.tenant:
        return page
    return replace(page, tenant=tenant)


def store_of_tenant(store: PageStore, tenant: str) -> PageStore:
    """The store with this tenant's pages only; the store as it is where tenant is "" (`HasTenants`).

    Raises:
        SettingError: It cannot keep tenants apart, or is another tenant's.
    """
    if not tenant:
        return store
    of_tenant = getattr(store, "of_tenant", None)
    if of_tenant is None:
        raise SettingError(
            f"tenant={tenant!r} needs a store that keeps tenants apart, and {type(store).__name__} has no of_tenant(). "
            "Use QdrantPageStore, or leave tenant out."
        )
    found: PageStore = of_tenant(tenant)
    return found


def shown_filter(store: object, filter: Filter | None) -> Filter | None:
    """A host's filter for this store: its keys mean what the host shows as metadata (`FiltersAsShown`).

    A store that does not know the difference gets the filter as it is, and so does an engine its own filter object.

    >>> class Store:
    ...     filters_as_shown = True
    >>> shown_filter(Store(), {"page": 0, "tenant": "ada"}), shown_filter(Store(), None)
    ({'$metadata': {'page': 0, 'tenant': 'ada'}}, None)
    """
    if not filter or not isinstance(filter, Mapping) or not getattr(store, "filters_as_shown", False):
        return filter
    return {"$metadata": filter}


def with_documents(store: object, doc_ids: Sequence[str]) -> Filter:
    """The filter that keeps the pages of these documents, known by `Page.doc_id` (`FiltersAsShown`)."""
    if getattr(store, "filters_as_shown", False):
        return {"$doc_ids": list(doc_ids)}
    return {"doc_id": list(doc_ids)}


def without_document(store: object, doc_id: str) -> Filter:
    """The filter that leaves out a document's pages, known by `Page.doc_id` (`FiltersAsShown`)."""
    if getattr(store, "filters_as_shown", False):
        return {"$not": {"$doc_ids": [doc_id]}}
    return {"$not": {"doc_id": doc_id}}


def knows_who_filled_it(store: object) -> bool:
    """Whether it says who filled it, and somebody did (`HasInfo`)."""
    return getattr(store, "info", None) is not None


def why_nothing(
    store: object, filter: Filter | None, within: Filter | None = None, show: Callable[[str], str] = str
) -> str:
    """Which key or value of a filter that found nothing no page has, in words; "" where nobody can say.

    Args:
        store: Any store (`ExplainsFilters`).
        filter: Of the search.
        within: The filter that holds for every search: nothing is told of other pages.
        show: How a text of a page's metadata is written.
    """
    explain = getattr(store, "why_nothing", None)
    if explain is None or not isinstance(filter, Mapping) or not filter:
        return ""
    return str(explain(filter, within, show))
