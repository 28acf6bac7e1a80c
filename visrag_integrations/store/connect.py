"""From a location to an engine: a folder, memory, a URL, a client."""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from visrag_integrations.errors import SettingError, printable
from visrag_integrations.interfaces.arguments import check_arguments
from visrag_integrations.store.addresses import Addresses, addresses_of
from visrag_integrations.store.advice import AskedServer
from visrag_integrations.store.clusters import ClusterSettings
from visrag_integrations.store.patience import answer_time, limit_connecting

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

    from visrag_integrations.store.engine import Engine


# What people copy from a compose file or an address bar: name:6333, 10.0.0.5:6333, [::1]:6333, with a user or a path.
# What stands before the port has no slash, so "./localhost:6333" and "C:\\index" are folders.
_HOST_AND_PORT = re.compile(r"(?://)?(?:[^/\\\s@]+@)?(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}(?:/.*)?")
# Hosts that are none but by their name: this machine, an IPv4 address, Qdrant Cloud.
_KNOWN_HOST = re.compile(
    r"(?://)?(?:localhost|\d{1,3}(?:\.\d{1,3}){3}|[\w.-]+\.cloud\.qdrant\.io)(?:/.*)?", re.IGNORECASE
)
# "http:/host" and "http:host": a slash was lost.
_LOST_SLASH = re.compile(r"(https?):/?([^/].*)", re.IGNORECASE)


def folder_of(location: Any) -> Path | None:
    """The folder, where the location is one.

    Raises:
        SettingError: It is empty, a URL of something else, or an address without http:// or https://.
    """
    if addresses_of(location) or location == ":memory:":
        return None
    if isinstance(location, str) and "://" in location:
        raise SettingError(f"The location {location!r} cannot be opened. Supported URLs: http://... and https://...")
    if location == "":
        raise SettingError('The location is empty. Give a folder, ":memory:" or a URL.')
    if isinstance(location, str):
        _refuse_address(location)
    if isinstance(location, (str, Path)):
        return Path(location)
    return None  # a client


def _refuse_address(location: str) -> None:
    """Nothing, unless it is a server's address without its scheme, which would become a folder of that name.

    >>> _refuse_address("localhost-index")
    """
    if Path(location).is_dir():
        return  # whoever made a folder of that name means it
    first = location.split(",", 1)[0].strip()
    lost = _LOST_SLASH.fullmatch(first)
    if lost:
        url = f"{lost[1].lower()}://{lost[2]}"
    elif _HOST_AND_PORT.fullmatch(first) or _KNOWN_HOST.fullmatch(first):
        scheme = "http"
        if ".cloud.qdrant.io" in first.lower():
            scheme = "https"
        url = f"{scheme}://{first.removeprefix('//')}"
    else:
        return
    shown = printable(_without_password(location))
    raise SettingError(
        f'The location {shown!r} looks like the address of a server. Say "{printable(_without_password(url))}" for '
        f'a server, "./{shown.lstrip("/")}" for a folder.'
    )


def _without_password(address: str) -> str:
    """The address as messages may show it.

    >>> _without_password("http://ada:secret@host:6333/x")
    'http://host:6333/x'
    """
    return re.sub(r"(?<![^/,\s])[^/,\s@]+@", "", address)


_ELSEWHERE = {
    "url": "the place is location=.",
    "path": "the place is location=.",
    "host": "the place is location=, for example http://localhost:6333.",
    "client": "a QdrantClient is given as location=.",
    "collection_name": "its name here is collection=.",
}
"""What users of other libraries write, and what it is called here."""


def check_options(location: Any, options: Iterable[str], own: Collection[str]) -> None:
    """Nothing, unless there is an option that neither a store nor, for a URL, a client has.

    Raises:
        SettingError: There is; the message has the nearest name.
    """
    known = set(own)
    if is_url(location):
        known |= client_options()
    check_arguments("QdrantPageStore", options, known - {"client_options", "self"}, elsewhere=_ELSEWHERE)


def is_url(location: Any) -> bool:
    """Whether it is the URL of a server, or several of a cluster."""
    return bool(addresses_of(location))


def client_options() -> set[str]:
    """What a client takes for a URL."""
    from qdrant_client import QdrantClient

    return set(inspect.signature(QdrantClient).parameters) - {"self", "kwargs", "location", "url", "path", "host"}


def open_engine(location: Any, collection: str, server_options: Mapping[str, Any], **options: Any) -> Engine:
    """The engine of a collection; `options` are those of a client, `server_options` those of a new collection."""
    folder = folder_of(location)
    cluster = ClusterSettings(options.pop("read_consistency", None), options.pop("write_ordering", None))
    if folder is not None:
        from visrag_integrations.store.edge import EdgeEngine

        if server_options:
            raise SettingError(
                f"server_options={dict(server_options)} are for a server, and {folder} is a folder. Leave them out, or "
                "give the URL of a server."
            )
        if cluster != ClusterSettings():
            raise SettingError(f"{cluster} is for a cluster of servers, and {folder} is a folder. Leave it out.")
        return EdgeEngine.open(folder, collection)
    from visrag_integrations.store.client import ClientEngine

    client, where, owned = connect(location, **options)
    timeout = None  # a given client has its own
    if is_url(location):
        timeout = answer_time(options.get("timeout"))
    asked = _asked_of(location, client)
    return ClientEngine(
        client,
        collection,
        where,
        owned=owned,
        options=server_options,
        asked=asked,
        timeout=timeout,
        cluster=cluster,
    )


def _asked_of(location: Any, client: QdrantClient) -> Callable[[], AskedServer]:
    """Where the client's requests go, as it is at the time of an error."""
    several = _several.get(client)
    if several is not None:
        return several.asked
    asked = _asked_one(location, client)
    return lambda: asked


def _asked_one(location: Any, client: QdrantClient) -> AskedServer:
    """Where the client sends its requests, and what of it was not typed."""
    made_with = getattr(client, "init_options", {})
    if location == ":memory:" or made_with.get("location") == ":memory:" or made_with.get("path"):
        return AskedServer("The engine in this process")
    try:
        url = urlsplit(client.http.client.host)
    except (AttributeError, NotImplementedError):  # a client of somebody's own making
        return AskedServer()
    port: Any = url.port
    address = f"Host {url.hostname}, port {port}"
    if made_with.get("prefer_grpc"):
        port = made_with.get("grpc_port")
        return AskedServer(f"Host {url.hostname}, port {port} (gRPC)")
    notes: list[str] = []
    typed = made_with.get("url")
    if typed and urlsplit(typed).port is None and made_with.get("port") == port:
        usual = 443 if url.scheme == "https" else 80
        notes.append(f"A URL without a port means {port}, Qdrant's own: add :{usual} where a proxy answers there.")
    if url.path.strip("/"):
        address += f", path {url.path}"
        notes.append("A path is part of Qdrant's address only where a proxy has put it there.")
    return AskedServer(address, " ".join(notes))


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
    if addresses_of(location):
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise SettingError("api_key holds a line end or another character that no key has. Give the key alone.")
        options.setdefault("check_compatibility", False)  # it prints a warning when the server is away; we raise
        seconds: Any = answer_time(timeout)
        client = _connected(addresses_of(location), api_key=api_key, timeout=seconds, **options)
        return client, ", ".join(map(_without_password, addresses_of(location))), True
    raise SettingError(f'The location is {location!r}; give a folder, ":memory:", a URL or a QdrantClient.')


_several: weakref.WeakKeyDictionary[QdrantClient, Addresses] = weakref.WeakKeyDictionary()
"""Of clients with several addresses: which, so that messages say where was asked."""


def _connected(addresses: Sequence[str], **options: Any) -> QdrantClient:
    """A client for these addresses; with several, its requests go to the next where one does not answer."""
    from qdrant_client import QdrantClient

    if len(addresses) > 1 and options.get("prefer_grpc"):
        raise SettingError("gRPC asks one address only. Give one, or leave prefer_grpc out.")
    client = QdrantClient(url=addresses[0], **options)
    limit_connecting(client)
    if len(addresses) > 1:
        bases = [client.http.client.host]
        for address in addresses[1:]:
            # The client's own reading of a URL: its port, its path. It is asked nothing, and needs no key.
            other = QdrantClient(url=address, check_compatibility=False, port=options.get("port", 6333))
            bases.append(other.http.client.host)
            other.close()
        several = Addresses(bases)
        client.http.client.add_middleware(several)
        _several[client] = several
    return client
