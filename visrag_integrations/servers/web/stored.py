"""What of an index a request may reach: one page by its id, and the filter of a search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Filter
    from visrag_integrations.retrieval import PageRetriever
    from visrag_integrations.types import Page


def within(filter: Filter | None) -> Filter | None:
    """The filter of a request, so that it only ever narrows the retriever's own, and tells nothing of that.

    >>> within({"tenant": "bob"}), within({})
    ({'$and': [{'tenant': 'bob'}]}, None)
    """
    if not filter:
        return None
    # Beside a condition of the retriever's own on the same key, not in its place; and no error says that there is one.
    return {"$and": [filter]}


def stored_page(retriever: PageRetriever, id_: str) -> Page | None:
    """The page with this id (a UUID), if it is one that the retriever, with its own filter, can find."""
    store = retriever.store
    only: Any = retriever.filter
    if not only:
        return next(iter(store.get_pages([id_])), None)
    if not isinstance(only, Mapping):
        return None  # a filter of the engine's own cannot be joined with an id
    return next(store.scroll({"$and": [only, {"$ids": [id_]}]}), None)
