"""Several addresses of one cluster: a request goes to the next one where the first does not answer."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from visrag_integrations.errors import SettingError, printable
from visrag_integrations.store.advice import AskedServer
from visrag_integrations.store.refusals import read_refusal

# A node that hangs was counted out by the others after 9.7 s (a write with two copies); most searches answer in
# milliseconds, so that who waits longer at one address waits in vain.
NEXT_ADDRESS_S = 10.0
"""Seconds one address may take to answer while there is another."""

# A comma may stand in a path, so only one before the next address parts two.
_BETWEEN = re.compile(r"\s*,\s*(?=https?://)", re.IGNORECASE)
# POST requests that only read, or leave the same when they arrive twice.
_REPEATABLE_POST = re.compile(
    r"/points(?:/(?:scroll|count|query|query/batch|query/groups|delete|payload|payload/delete|batch))?|/facet"
)


def addresses_of(location: Any) -> tuple[str, ...]:
    """The addresses of a server or cluster; none where the location is something else.

    Raises:
        SettingError: One of them is no URL, or there is none in a list.

    >>> addresses_of("http://one:6333, http://two:6333"), addresses_of("folder")
    (('http://one:6333', 'http://two:6333'), ())
    """
    if isinstance(location, (list, tuple)):
        given = [part for each in location for part in _parts(each)]
        if not given:
            raise SettingError('The location is an empty list. Give one address or more: ["http://localhost:6333"].')
    elif isinstance(location, str) and _is_url(location):
        given = _parts(location)
    else:
        return ()
    for address in given:
        if not isinstance(address, str) or not _is_url(address) or "," in urlsplit(address).netloc:
            raise SettingError(
                f"The location {printable(str(location))!r} names several addresses, and each must begin with http:// "
                'or https://: "http://one:6333,http://two:6333".'
            )
    return tuple(dict.fromkeys(given))


def _parts(address: Any) -> list[Any]:
    if not isinstance(address, str):
        return [address]
    return [part.strip().rstrip(",") for part in _BETWEEN.split(address)]


def _is_url(address: str) -> bool:
    return address.strip().startswith(("http://", "https://"))


class Addresses:
    """Middleware of a client's HTTP requests: each goes to the address that answered last, and on where it is silent.

    A connection that is refused or not made goes to the next address at once, whatever was asked, for nothing was sent.
    Where an answer does not come, only a read or a write that may arrive twice goes on. Where none has answered in the
    time for one address, each of them is asked again and has the whole time: the work itself may take so long, and the
    node that hangs must not be the only one that is waited for. Thread-safe.

    Args:
        bases: Host, port and path of each address, as the client makes them of what was typed.
    """

    def __init__(self, bases: Sequence[str]) -> None:
        self._bases = [base.rstrip("/") for base in bases]
        self._first = 0
        self._of_thread = threading.local()

    def __call__(self, request: Any, send: Callable[[Any], Any]) -> Any:
        path = str(request.url).removeprefix(self._bases[0])
        limits = dict(request.extensions.get("timeout") or {})
        may_repeat = _is_repeatable(request.method, request.url.path)
        first = self._first
        left = [(first + step) % len(self._bases) for step in range(len(self._bases))]
        # Twice round where an answer may fail to come; of one address there is nowhere to go on to.
        hurries = [True, False] if may_repeat and len(left) > 1 else [False]
        for in_a_hurry in hurries:
            silent: list[int] = []
            for place in left:
                self._of_thread.place = place
                self._point(request, self._bases[place] + path)
                request.extensions["timeout"] = limits
                if in_a_hurry:
                    request.extensions["timeout"] = {**limits, "read": self.seconds_for(place, limits.get("read"))}
                try:
                    answer = send(request)
                except Exception as err:
                    refusal = read_refusal(err)
                    if not refusal.connecting and not (may_repeat and refusal.silent):
                        raise
                    if not refusal.connecting:
                        silent.append(place)
                    trouble = err
                    continue
                self._first = place
                return answer
            left = silent
            if not left:
                self._of_thread.place = None  # all of them
                break
        raise trouble

    def seconds_for(self, place: int, whole: float | None) -> float:
        """How long one address is waited for while there are others that were not asked."""
        return min(NEXT_ADDRESS_S, whole or NEXT_ADDRESS_S)

    def asked(self) -> AskedServer:
        """Where this thread's last request went."""
        place = getattr(self._of_thread, "place", None)
        if place is None:
            return AskedServer(f"Each of {', '.join(self._bases)}")
        url = urlsplit(self._bases[place])
        return AskedServer(f"Host {url.hostname}, port {url.port}")

    def _point(self, request: Any, url: str) -> None:
        """Let the request go there."""
        request.url = type(request.url)(url)
        request.headers["Host"] = request.url.netloc.decode("ascii")


def _is_repeatable(method: str, path: str) -> bool:
    """Whether a request leaves the same when it arrives twice.

    >>> _is_repeatable("PUT", "/collections/pages/points"), _is_repeatable("PUT", "/collections/pages")
    (True, False)
    """
    inside = re.sub(r".*/collections/[^/]+", "", path)
    if method == "GET":
        return True
    if method == "PUT":
        return inside in ("/points", "/index")
    return method == "POST" and _REPEATABLE_POST.fullmatch(inside) is not None
