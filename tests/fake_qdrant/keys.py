"""Who may do what."""

from __future__ import annotations

from collections.abc import Mapping

from fake_qdrant.requests import Refusal, Request
from fake_qdrant.state import Key

NO_KEY = "Must provide an API key or an Authorization bearer token"
WRONG_KEY = "Invalid API key or JWT"


def check_key(request: Request, keys: Mapping[str, Key]) -> Key:
    """The key of the request.

    Raises:
        Refusal: None, an unknown one, or one that may not do this.
    """
    if not keys:
        return Key()
    if not request.key:
        raise Refusal(401, NO_KEY)
    key = keys.get(request.key)
    if key is None:
        raise Refusal(401, WRONG_KEY)
    if key.access != "manage":
        _check_rights(request, key)
    return key


def may_see(key: Key, collection: str) -> bool:
    """Whether lists show this collection to the key."""
    return bool(key.access) or collection in key.collections


def _check_rights(request: Request, key: Key) -> None:
    parts = request.parts
    if parts[0] in ("aliases", "telemetry") or parts == ["collections"]:
        return  # everybody's; what the key may not see is left out
    if _manages(request):
        raise Refusal(403, "Forbidden: Global manage access is required")
    if parts[0] != "collections":
        if not key.access:
            raise Refusal(403, "Forbidden: Global access is required")
        return
    name = parts[1]
    right = key.collections.get(name, "")
    if not key.access and not right:
        raise Refusal(403, f"Forbidden: Access to collection {name} is required")
    if request.is_write and key.access != "write" and right != "rw":
        raise Refusal(403, f"Forbidden: Write access to collection {name} is required")


def _manages(request: Request) -> bool:
    """Whether this is about collections as a whole: making, changing, removing, naming them."""
    parts = request.parts
    if parts[:2] == ["collections", "aliases"]:
        return request.method == "POST"
    return len(parts) == 2 and parts[0] == "collections" and request.method in ("PUT", "PATCH", "DELETE")
