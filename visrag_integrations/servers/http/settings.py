"""What the server allows."""

from __future__ import annotations

from dataclasses import dataclass

from visrag_integrations.errors import SettingError
from visrag_integrations.servers.web.access import check_tokens, several


@dataclass(frozen=True)
class ServeSettings:
    """Who may ask the server what; numbers must be above 0.

    Attributes:
        tokens: A request needs one of them, except to `/health`; none: everybody who reaches the server may ask.
        hosts: Names the server may be called by (the Host header, without port); none: any.
        cors_origins: Web pages of these origins may ask, such as "https://app.example".
        search_paths: `GET /search` gives paths of this machine in place of addresses, to clients on this machine only:
            the published VRAG client opens what it is given as a file.
        public_url: Where clients reach the server, if not where it listens: what image addresses begin with.
        max_body_bytes: Of a request.
        max_query_characters: Of a query or question.
        max_queries: Of one `GET /search`.
        max_pixels: Of a picture in a query.
        max_top_k: Pages of one answer.
        requests_per_second: For each token, or each address where there are none, on average; None: any number.
        burst: How many of them may come at once.
        max_concurrency: Requests that are worked on at once.
        max_batch: Queries that are embedded together.
        body_seconds: How long a request's body may take to come.
        request_seconds: How long an answer may take.
        ask_seconds: The same for `/ask`.
        heartbeat_seconds: A stream says at least so often that it is alive.
    """

    tokens: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    search_paths: bool = False
    public_url: str = ""
    max_body_bytes: int = 16 * 1024 * 1024  # a photo as base64
    max_query_characters: int = 4_000
    max_queries: int = 32
    max_pixels: int = 25_000_000  # of a good camera; opened it is 75 MB
    max_top_k: int = 50  # a model reads a few pages, a person a list of some dozens
    requests_per_second: float | None = None
    burst: int = 50
    max_concurrency: int = 128
    max_batch: int = 32
    body_seconds: float = 30.0
    request_seconds: float = 30.0
    ask_seconds: float = 300.0
    heartbeat_seconds: float = 15.0  # many proxies close what is silent for a minute

    def __post_init__(self) -> None:
        check_tokens(self.tokens)
        several("hosts", self.hosts)
        several("cors_origins", self.cors_origins)
        for name, value in vars(self).items():
            if isinstance(value, bool):
                continue
            # Not `<= 0`: NaN is no limit either.
            if isinstance(value, (int, float)) and not value > 0:
                raise SettingError(f"{name} is {value!r}; it must be above 0.")
        if self.public_url and not self.public_url.startswith(("http://", "https://")):
            raise SettingError(f"public_url is {self.public_url!r}; give all of it, such as https://search.example.")
        if "*" in self.cors_origins:
            raise SettingError('cors_origins has "*", which lets every web page ask. Name the origins that may.')
