"""JSON over HTTP to one address, sent again when the server is busy, failing, or cannot be reached."""

from __future__ import annotations

import base64
import email.utils
import logging
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from visrag_integrations.errors import EmbedderError, EndpointError, SettingError, VisRAGError, printable
from visrag_integrations.fetching import without_credentials

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

# Worth another try: too slow, too early, too many requests, and errors on the server's side.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
# Seconds. The first is enough for a server that is only busy; with the longest, 5 retries bridge a restart of some 15 s
# up to half a minute, and a caller is never left without a sign for longer.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0


class JSONClient:
    """Posts JSON to one address; safe to call from many threads. Redirects are not followed.

    Errors show the address without user, password and query, and never the key, even where the server repeats it.
    """

    failed: type[EndpointError] = EndpointError
    """What is raised when it is not reached, or refuses."""
    hint = "Is the server running, and is base_url right?"
    """What to look at where it cannot be reached."""

    def __init__(self, url: str, api_key: str | None, *, timeout: float, retries: int, connections: int) -> None:
        if timeout <= 0 or retries < 0:
            raise SettingError(f"timeout is {timeout}, retries {retries}; they must be above 0, and 0 or more.")
        import httpx

        self._secrets = secrets_of(url, api_key)
        headers = {}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self.url, self.retries, self.first_wait = url, retries, FIRST_WAIT
        self.shown_url = without_credentials(url.partition("?")[0])
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
                problem, wait, cause = f"status {answer.status_code}", answer.headers.get("retry-after"), None
            if attempt < self.retries:
                logger.info("%s: %s; trying again", self.shown_url, self._harmless(problem))
                time.sleep(seconds_to_wait(attempt, wait, self.first_wait))
        raise self.failed(
            f"{self.shown_url} did not answer after {self.retries + 1} tries, the last with {self._harmless(problem)}. "
            f"{self.hint}"
        ) from cause

    def check_open(self) -> None:
        """Nothing, unless this was closed.

        Raises:
            VisRAGError: As `closed` says.
        """
        if self._client.is_closed:
            raise self.closed()

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def closed(self) -> VisRAGError:
        """What is raised once it was closed."""
        return EmbedderError("This embedder was closed. Make it again with load_embedder(...).")

    def advice(self, status: int) -> str:
        """What to do about a request that was refused; "" where the server's own words have to do."""
        return ""

    def _read(self, answer: httpx.Response) -> Any:
        if answer.status_code != 200:
            said = self._harmless(answer.text[:500])
            advice = self.advice(answer.status_code)
            raise self.failed(
                f"{self.shown_url} refused the request with status {answer.status_code}: {said}{advice and ' '}{advice}"
            )
        try:
            return answer.json()
        except ValueError as err:
            said = self._harmless(answer.text[:200])
            raise self.failed(f"{self.shown_url} did not answer with JSON: {said!r}") from err

    def _harmless(self, text: str) -> str:
        """Words of a server for one line of an error, without what must not be shown."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return printable(text)


def secrets_of(url: str, api_key: str | None) -> list[str]:
    """What must not be shown of an address and a key, the longest first.

    Raises:
        SettingError: There are both; httpx sends the password and not the key.
    """
    parts = urlsplit(url)
    found = {api_key or ""}
    if parts.username or parts.password:
        if api_key:
            raise SettingError("There is a user and password in the URL, and an api_key. Give one of them.")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        found |= {parts.password or parts.username or "", password or user}
        found.add(base64.b64encode(f"{user}:{password}".encode()).decode("ascii"))  # as it is sent
    return sorted(found - {""}, key=lambda secret: -len(secret))


def seconds_to_wait(attempt: int, asked: str | None, first: float = FIRST_WAIT) -> float:
    """How long to wait before the next try: what the server asks for, else twice as long each time; 30 s at most.

    >>> seconds_to_wait(0, "7"), 0.5 <= seconds_to_wait(0, None) <= 1, seconds_to_wait(50, None)
    (7.0, True, 30.0)
    >>> seconds_to_wait(0, "Fri, 01 Jan 2021 00:00:00 GMT")
    0.0
    """
    wanted = _asked_seconds(asked)
    if wanted is not None:
        return min(LONGEST_WAIT, wanted)
    spread = random.uniform(1.0, 2.0)  # so that many clients do not all come back at once
    return min(LONGEST_WAIT, first * 2.0**attempt * spread)


def _asked_seconds(asked: str | None) -> float | None:
    """The seconds of a Retry-After, which is a number or a date; None where it is neither."""
    if asked is None:
        return None
    if asked.isascii() and asked.strip().isdecimal():
        return float(asked)
    try:
        until = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, until.timestamp() - time.time())
