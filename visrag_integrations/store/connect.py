"""From a location to an engine: a folder, memory, a URL, a client."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import SettingError

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from visrag_integrations.store.engine import Engine


def folder_of(location: Any) -> Path | None:
    """The folder, where the location is one."""
    if isinstance(location, str) and (location == ":memory:" or location.startswith(("http://", "https://"))):
        return None
    if isinstance(location, str) and "://" in location:
        raise SettingError(f"The location {location!r} cannot be opened. Supported URLs: http://... and https://...")
    if location == "":
        raise SettingError('The location is empty. Give a folder, ":memory:" or a URL.')
    if isinstance(location, (str, Path)):
        return Path(location)
    return None  # a client


def open_engine(location: Any, collection: str, server_options: Mapping[str, Any], **options: Any) -> Engine:
    """The engine of a collection; `options` are those of a client, `server_options` those of a new collection."""
    folder = folder_of(location)
    if folder is not None:
        from visrag_integrations.store.edge import EdgeEngine

        if server_options:
            raise SettingError(
                f"server_options={dict(server_options)} are for a server, and {folder} is a folder. Leave them out, or "
                "give the URL of a server."
            )
        return EdgeEngine.open(folder, collection)
    from visrag_integrations.store.client import ClientEngine

    client, where, owned = connect(location, **options)
    return ClientEngine(client, collection, where, owned=owned, options=server_options)


def connect(
    location: Any, *, api_key: str | None, timeout: int | None, **options: Any
) -> tuple[QdrantClient, str, bool]:
    """The client for a location, its name in messages, and whether it is ours to close.

    Raises:
        SettingError: The location is none of a folder, ":memory:", a URL or a client.
    """
    from qdrant_client import QdrantClient

    if isinstance(location, QdrantClient):
        if api_key is not None or timeout is not None or options:
            raise SettingError("A QdrantClient has its own api_key, timeout and options; give them to the client.")
        return location, "the given QdrantClient", False
    if location == ":memory:":
        return QdrantClient(":memory:"), ":memory:", True
    if isinstance(location, str):
        options.setdefault("check_compatibility", False)  # it prints a warning when the server is away; we raise
        return QdrantClient(url=location, api_key=api_key, timeout=timeout, **options), location, True
    raise SettingError(f'The location is {location!r}; give a folder, ":memory:", a URL or a QdrantClient.')
