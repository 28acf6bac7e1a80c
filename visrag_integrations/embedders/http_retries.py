"""JSON over HTTP to one address, sent again when the server is busy, failing, or cannot be reached."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import EmbedderError, EndpointError, SettingError, printable

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

# Worth another try: too slow, too early, too many requests, and errors on the server's side.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
# Seconds. The first is enough for a server that is only busy; with the longest, 5 retries bridge a restart of some 15 s
# up to half a minute, and a caller is never left without a sign for longer.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class EmbeddingClient:
    """Posts JSON to one address; safe to call from many threads. Redirects are not followed."""

    def __init__(self, url: str, api_key: str | None, *, timeout: float, retries: int, connections: int) -> None:
        if timeout <= 0 or retries < 0:
            raise SettingError(f"timeout is {timeout}, retries {retries}; they must be above 0, and 0 or more.")
        import httpx

        headers = {}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.url, self.retries, self.first_wait = url, retries, FIRST_WAIT
        self._client = httpx.Client(headers=headers, timeout=timeout, limits=limits)

    def post(self, body: dict[str, Any]) -> Any:
        """The JSON of the server's answer.

        Raises:
            EndpointError: It cannot be reached, refuses, or fails, after all the retries.
        """
        import httpx

        cause: Exception | None = None
        for attempt in range(self.retries + 1):
            try:
                answer = self._client.post(self.url, json=body)
            except httpx.TransportError as err:  # also what a time limit raises
                problem, wait, cause = f"{type(err).__name__}: {err}", None, err
            else:
                if answer.status_code not in BUSY:
                    return self._read(answer)
                problem, wait = f"status {answer.status_code}", answer.headers.get("retry-after")
            if attempt < self.retries:
                logger.info("%s: %s; trying again", self.url, problem)
                time.sleep(seconds_to_wait(attempt, wait, self.first_wait))
        raise EndpointError(
            f"{self.url} did not answer after {self.retries + 1} tries, the last with {printable(problem)}. "
            "Is the server running, and is base_url right?"
        ) from cause

    def check_open(self) -> None:
        """Nothing, unless this was closed.

        Raises:
            EmbedderError: It was.
        """
        if self._client.is_closed:
            raise EmbedderError("This embedder was closed. Make it again with load_embedder(...).")

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code != 200:
            said = printable(answer.text[:500])
            raise EndpointError(f"{self.url} refused the request with status {answer.status_code}: {said}")
        try:
            return answer.json()
        except ValueError as err:
            raise EndpointError(f"{self.url} did not answer with JSON: {printable(answer.text[:200])!r}") from err


def seconds_to_wait(attempt: int, asked: str | None, first: float = FIRST_WAIT) -> float:
    """How long to wait before the next try: what the server asks for, else twice as long each time; 30 s at most.

    >>> seconds_to_wait(0, "7"), 0.5 <= seconds_to_wait(0, None) <= 1, seconds_to_wait(50, None)
    (7.0, True, 30.0)
    """
    if asked is not None and asked.strip().isdigit():
        return min(LONGEST_WAIT, float(asked))
    spread = random.uniform(1.0, 2.0)  # so that many clients do not all come back at once
    return min(LONGEST_WAIT, first * 2.0**attempt * spread)
