"""Requests to a store over a network, tried again while the trouble may pass."""

from __future__ import annotations

import functools
import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from visrag_integrations.errors import SettingError, StoreError
from visrag_integrations.store.refusals import may_pass, read_refusal

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Retry:
    """How often a request to a server is tried, and how long to wait between: doubled each time, with jitter.

    Only trouble that may pass is tried again: no connection, no answer in time, "too many requests", a server's own
    errors. Writes are idempotent (a page always has the same id), so one that arrived twice does no harm.

    Attributes:
        limit: Tries in all.
        first_wait: Seconds before the second try, at most.
        longest_wait: Seconds between two tries, at most; a server that names a time is believed up to it.
        stop: Ends the waiting, and with it the trying.
    """

    # With these waits seven tries last up to half a minute (0.5 + 1 + ... + 16): a server has time to restart.
    limit: int = 7
    first_wait: float = 0.5
    longest_wait: float = 30.0
    stop: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.limit < 1 or self.first_wait < 0 or self.longest_wait < 0:
            raise SettingError(f"{self!r}: limit must be 1 or more, and the waits 0 or more seconds.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit, self.first_wait, self.longest_wait)  # another process stops by itself

    def call(self, work: Callable[[], T], where: str = "The store") -> T:
        """What `work` returns, at the first try that works.

        Raises:
            StoreError: It failed `limit` times. Errors that do not pass are raised as they are.
        """
        started = time.monotonic()
        for tries in range(1, self.limit + 1):
            try:
                return work()
            except Exception as err:
                if not may_pass(err):
                    raise
                if tries == self.limit or self.stop.wait(self._wait(tries, err)):
                    seconds = time.monotonic() - started
                    message = read_refusal(err).sentence
                    raise StoreError(
                        f"{where} failed {tries} times in {seconds:.0f} seconds, at last with: {message}. "
                        "What was added is kept: when it answers again, run the same again, and it goes on from there."
                    ) from err
                logger.warning("%s: try %d of %d failed: %s", where, tries, self.limit, err)
        raise AssertionError("unreachable")

    def _wait(self, tries: int, err: Exception) -> float:
        """Seconds before the next try: first_wait, twice that, four times, ...; at least what the server asks for."""
        wait = min(self.longest_wait, self.first_wait * 2.0 ** (tries - 1))
        # Jitter, so that many workers that failed at one moment do not all come back at one moment.
        wait *= random.uniform(0.5, 1.0)
        asked_for: Any = getattr(err, "retry_after_s", None)
        if asked_for is None:
            return wait
        return min(self.longest_wait, max(wait, float(asked_for)))


class RetryingStoreClient:
    """A Qdrant client whose requests are tried again."""

    def __init__(self, client: Any, where: str, retry: Retry) -> None:
        self._client, self._retry, self._where = client, retry, where

    def call(self, work: Callable[[], T]) -> T:
        """What `work`, a request that the client has no name for, returns at the first try that works."""
        return self._retry.call(work, self._where)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if not callable(method):
            return method

        @functools.wraps(method)
        def request(*arguments: Any, **settings: Any) -> Any:
            work = functools.partial(method, *arguments, **settings)
            if name == "create_collection":
                work = functools.partial(_created, work, itertools.count(1))
            return self._retry.call(work, self._where)

        return request


def _created(create: Callable[[], Any], tries: Iterator[int]) -> Any:
    """A creation whose answer got lost has happened: the second try must not mind that it is there."""
    first = next(tries) == 1
    try:
        return create()
    except Exception as err:
        if first or "already exists" not in str(err):
            raise
        return True
