"""Says that a server is asked again: without a word, one that is not there looks like one that thinks."""

from __future__ import annotations

import logging
import time
from typing import Any

from visrag_integrations.fetching import without_credentials

logger = logging.getLogger(__name__)

# Header of the openai package's requests: how often this one was sent before.
_TRIES = "x-stainless-retry-count"
# Many requests at once are all sent again when a server restarts: one line in so many seconds says it.
_SECONDS_BETWEEN = 5.0


class TellsOfRetries:
    """Called before a request is sent; warns when it was sent before."""

    def __init__(self) -> None:
        self._last = -_SECONDS_BETWEEN

    async def __call__(self, request: Any) -> None:
        if request.headers.get(_TRIES, "0") == "0":
            return
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN:
            return
        self._last = now
        address = without_credentials(str(request.url).partition("?")[0])
        logger.warning("%s does not answer, or is busy; trying again", address)
