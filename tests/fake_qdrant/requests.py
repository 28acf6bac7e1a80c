"""One request and one refusal, as REST says them; what comes over gRPC is put into the same words first."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

LARGEST = 33_554_432
"""Bytes of JSON that a server takes."""

CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""HTTP status -> the gRPC code that means the same."""


class Refusal(Exception):
    """What the server will not do: an HTTP status and its sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass
class Request:
    """A request, and how many bytes it and its answer had.

    Attributes:
        method: "GET", "PUT", "POST", "PATCH" or "DELETE".
        path: Without the query.
        query: `timeout`, `wait`, `ordering`, `consistency`, as texts.
        sent: Bytes of its body.
        answered: Bytes of the answer's body.
        key: The API key that came with it.
        body: What it says; emptied where it is large, so that tests need not hold it.
        takes: Seconds that the nodes need to agree on it.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    answered: int = 0
    key: str | None = None
    body: Any = None
    takes: float = 0.0

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def parts(self) -> list[str]:
        """The path's parts."""
        return self.path.strip("/").split("/")

    @property
    def is_write(self) -> bool:
        """Whether it changes points, or a collection."""
        if self.method in ("GET", "HEAD"):
            return False
        reads = {"query", "scroll", "count", "facet", "exists", "batch", "groups", "search"}
        tail = self.parts[2:]
        if self.method == "POST" and tail == ["points"]:
            return False
        if tail == ["points", "batch"]:
            return True
        return not (self.method == "POST" and tail and tail[-1] in reads)

    def read_body(self, data: bytes) -> None:
        """Take the JSON of an HTTP request.

        Raises:
            Refusal: It is too large, or no JSON.
        """
        self.sent = len(data)
        if len(data) > LARGEST:
            raise Refusal(400, f"JSON payload ({len(data)} bytes) is larger than allowed (limit: {LARGEST} bytes).")
        try:
            self.body = json.loads(data or b"{}")
        except ValueError as err:
            raise Refusal(400, f"Format error in JSON body: {err}") from err
