"""How long a server is waited for, and which requests are sent again.

Ingestion has tries of its own (`ingestion.retry`): while they hold, these do not, so that the two never multiply.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from visrag_integrations.errors import SettingError
from visrag_integrations.store.refusals import may_pass, read_refusal

logger = logging.getLogger(__name__)

# A server gives a search 60 seconds of its own. The client's default of 5 ends requests that a server still works on: a
# new collection took 10.5 s with one node of a cluster away, and the first write beside a hung node 9.7 s.
ANSWER_S = 60
"""Seconds an answer may take, unless something else is said."""
# A host that is there accepts a connection in milliseconds, over a far network in less than one second; one that is not
# must be an error in seconds, not after a minute.
CONNECT_S = 5.0
# The first repeat meets a connection that was cut, the second a moment of trouble. More is ingestion's part, for there
# hours of work are at stake; a search has somebody who waits.
_TRIES = 3
_WAITS_S = (0.2, 1.0)
# A server that is restarted refuses connections meanwhile. One that is away should be an error while somebody looks on.
REFUSED_S = 3.0
_REFUSED_WAIT_S = 0.25

# Reads, and writes that leave the same when they arrive twice. A removed collection is not among them: between the two
# somebody may have made a new one of that name. Nor is "facet", which takes long where there are many values: where it
# fails, pages are listed instead (`ClientEngine.counted_by`).
_REPEATABLE = {
    "collection_exists",
    "get_collection",
    "get_collections",
    "get_aliases",
    "info",
    "count",
    "retrieve",
    "scroll",
    "query_points",
    "upsert",
    "delete",
    "set_payload",
    "batch_update_points",
    "create_payload_index",
}
# Those that a server may be told the time of.
_TIMED = {"count", "facet", "retrieve", "scroll", "query_points"}


def answer_time(timeout: float | None) -> float:
    """Seconds an answer may take: as given, else $VISRAG_TIMEOUT, else 60.

    Raises:
        SettingError: It is no number above 0.
    """
    if timeout is not None:
        return timeout
    said = os.environ.get("VISRAG_TIMEOUT", "").strip()
    if not said:
        return ANSWER_S
    if not said.isdecimal() or int(said) < 1:
        raise SettingError(f"VISRAG_TIMEOUT is {said!r}; it is a whole number of seconds from 1.")
    return int(said)


def limit_connecting(client: Any) -> None:
    """Let the client's HTTP connections be made within `CONNECT_S`, however long an answer may take."""

    def within(request: Any, send: Callable[[Any], Any]) -> Any:
        limits = dict(request.extensions.get("timeout") or {})
        limits["connect"] = min(CONNECT_S, limits.get("connect") or CONNECT_S)
        request.extensions["timeout"] = limits
        return send(request)

    client.http.client.add_middleware(within)


@runtime_checkable
class CallsAgain(Protocol):
    """A client that tries requests again, those too that it has no name for."""

    def call(self, work: Callable[[], Any]) -> Any: ...


class PatientClient:
    """A Qdrant client whose requests are sent again where that can help and cannot harm.

    Args:
        client: Of a server.
        timeout: Seconds that searches and reads tell the server, or None where it has its own.
        shorten: Called with the seconds that may be asked for, where the server says that these are too many.
    """

    def __init__(
        self, client: Any, timeout: float | None = None, shorten: Callable[[int], None] = lambda seconds: None
    ) -> None:
        self._client, self._timeout, self._shorten = client, timeout, shorten

    def call(self, work: Callable[[], Any]) -> Any:
        """What `work`, which is a request that may be repeated, returns at the first try that works."""
        return _call(work, repeatable=True)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return method

        @functools.wraps(method)
        def request(*arguments: Any, **settings: Any) -> Any:
            if name in _TIMED and self._timeout is not None:
                settings.setdefault("timeout", int(max(1, self._timeout)))
            work = functools.partial(method, *arguments, **settings)
            if name == "create_collection":
                return self._create(work, arguments[0])
            try:
                return _call(work, repeatable=name in _REPEATABLE)
            except Exception as err:
                allowed = _seconds_allowed(err)
                if allowed is None or name not in _TIMED or "timeout" not in settings:
                    raise
            # Refused before anything was done. A server in strict mode may have a longest time.
            self._timeout = allowed
            self._shorten(allowed)
            return _call(functools.partial(method, *arguments, **{**settings, "timeout": allowed}), repeatable=True)

        return request

    def _create(self, work: Callable[[], Any], collection: str) -> Any:
        """A creation whose answer got lost may have happened: look before it is sent again."""
        try:
            return _call(work, repeatable=False)
        except Exception as err:
            if not may_pass(err) or read_refusal(err).connecting:
                raise
            logger.warning("creating collection %r failed: %s; looking whether it is there", collection, err)
            if self.collection_exists(collection):
                return True
        try:
            return _call(work, repeatable=False)
        except Exception as err:
            if "already exists" in read_refusal(err).sentence:
                return True  # the first request was still on its way when we looked
            raise


def _seconds_allowed(error: BaseException) -> int | None:
    """The longest time that a server lets a request ask for, where it refused one for asking for more."""
    found = re.search(r'Limit exceeded \d+ > (\d+) for "timeout"', read_refusal(error).sentence)
    return int(found[1]) if found else None


def call(client: Any, work: Callable[[], Any]) -> Any:
    """What `work` returns, tried as often as `client` tries its own requests; once where it does not."""
    if isinstance(client, CallsAgain):
        return client.call(work)
    return work()


def _call(work: Callable[[], Any], *, repeatable: bool) -> Any:
    """What `work` returns, at the first try that works."""
    started = time.monotonic()
    tries = 0
    while True:
        try:
            return work()
        except Exception as err:
            wait = _REFUSED_WAIT_S
            if read_refusal(err).refused:  # nothing was sent, so any request may be sent again
                if time.monotonic() - started + wait > REFUSED_S:
                    raise
            else:
                tries += 1
                # A connection that nobody answers has had its five seconds; the next would wait as long in vain.
                if not repeatable or tries >= _TRIES or not may_pass(err) or read_refusal(err).connecting:
                    raise
                wait = _WAITS_S[tries - 1]
            logger.info("a request failed and is sent again in %.2f s: %s", wait, err)
        time.sleep(wait)
