"""A page store made for a vector store or retriever, from arguments as users of langchain-qdrant write them too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.arguments import check_arguments

if TYPE_CHECKING:
    from pydantic import BaseModel

    from visrag_integrations.store import QdrantPageStore

_PLACES = ("location", "url", "path", "client")
"""Names for the place of a store; the second to fourth are those of langchain-qdrant."""
_ELSEWHERE = {
    "content_payload_key": "texts are always kept under page_content.",
    "metadata_payload_key": "metadata are always kept under metadata.",
    "vector_name": "a collection that langchain-qdrant filled is taken over by from_qdrant_collection(...).",
    "retrieval_mode": 'each search has mode="dense", "lexical" or "hybrid".',
    "sparse_embedding": 'words are searched with mode="lexical" or "hybrid", without an embedding of their own.',
    "distance": "vectors are compared by their cosine.",
    "force_recreate": "delete() without arguments empties a collection.",
    "host": "give url=, for example http://localhost:6333.",
    "port": "give url=, for example http://localhost:6333.",
}


def open_store(owner: str, settings: Mapping[str, Any]) -> QdrantPageStore:
    """A new page store.

    Args:
        owner: What opens it, for messages.
        settings: Of `QdrantPageStore`, with `location` or, as in langchain-qdrant, `url`, `path` or `client`, and with
            `collection` or `collection_name`. Without a place it is in memory.

    Raises:
        SettingError: An argument that is not known, or two that say the same.
    """
    from visrag_integrations.store import QdrantPageStore
    from visrag_integrations.store.connect import client_options, is_url

    given = {name: value for name, value in settings.items() if value is not None}
    own = set(inspect.signature(QdrantPageStore).parameters) - {"client_options"}
    known = own | {"url", "path", "client", "collection_name"}
    place = _one(owner, given, _PLACES, ":memory:")
    collection = _one(owner, given, ("collection", "collection_name"), "pages")
    # What only a client of a server has would be dropped in silence for a folder.
    if is_url(place):
        known |= client_options()
    check_arguments(owner, given, known, elsewhere=_ELSEWHERE)
    return QdrantPageStore(place, collection, **given)


def refuse_unknown(method: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Nothing, unless something was given that the method's own arguments do not have.

    Raises:
        SettingError: It was; the message has the nearest name.
    """
    if given:
        parameters = inspect.signature(method).parameters.values()
        known = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"]
        check_arguments(f"{method.__name__}()", given, known)


def check_fields(cls: type[BaseModel], given: Any, elsewhere: Mapping[str, str] | None = None) -> None:
    """Nothing, unless a pydantic class is given a field that it does not have, which it would drop in silence.

    Raises:
        SettingError: It is; the message has the nearest name.
    """
    if isinstance(given, Mapping):
        known = set(cls.model_fields)
        # pydantic takes a field by its alias too.
        for field in cls.model_fields.values():
            if field.alias:
                known.add(field.alias)
        check_arguments(cls.__name__, given, known, elsewhere=elsewhere)


def _one(owner: str, given: dict[str, Any], names: tuple[str, ...], otherwise: Any) -> Any:
    """The value that stands under one of these names; it is taken out."""
    found = {name: given.pop(name) for name in names if name in given}
    if len(found) > 1:
        said = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise SettingError(f"{owner} was given {said}, which mean the same. Give one of them.")
    return next(iter(found.values()), otherwise)
