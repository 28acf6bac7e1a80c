"""What a Qdrant server's refusal says: its status, its own sentence, and whether trying again may help.

The same for HTTP and gRPC. What Qdrant answers to what was tried on server 1.18.3; what to do about it is in `advice`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import printable

# A gRPC code means what this HTTP status means (the table of google.rpc.Code, shortened to what Qdrant sends).
_STATUS_OF_CODE = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "ABORTED": 503,  # a conflict that the next try may not have
    "DEADLINE_EXCEEDED": 504,
}
# What may pass: no answer in time, too early, too many requests, and a server's own trouble (RFC 9110, 6585, 8470).
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
# A 500 that stays: nothing frees a disk or changes a version while somebody waits.
FULL_DISK = re.compile(
    r"no space left|exceeds available disk space|disk is full|out of disk|insufficient disk", re.IGNORECASE
)
NO_SUCH_STORAGE = re.compile(r"not yet wired up|untagged enum VectorsConfig|panicked ?with", re.IGNORECASE)
# gRPC says RESOURCE_EXHAUSTED of a message above its limit too; the next try is as large.
TOO_LARGE = re.compile(r"larger than (?:allowed|max)|length limit exceeded|message length too large", re.IGNORECASE)
# As the server says it, and the client in local mode.
_MISSING = re.compile(r"Collection .*(?:doesn't exist|not found)", re.IGNORECASE)
_STAYS = (FULL_DISK, NO_SUCH_STORAGE, TOO_LARGE)
# Qdrant's sentences are one or two lines; a page of somebody else's must not fill the screen.
_LONGEST = 600  # characters


@dataclass(frozen=True)
class Refusal:
    """Why a request failed.

    Attributes:
        sentence: In the server's own words, where it said something; on one line.
        status: As HTTP has it; None where there was no answer.
        from_qdrant: Whether a Qdrant server seems to have said it, and not a proxy or another service.
        silent: Whether there was no answer, or only a part of one.
        connecting: Whether not even the connection was made, so that nothing was sent.
        refused: Whether it was refused at once, as while a server restarts.
    """

    sentence: str
    status: int | None = None
    from_qdrant: bool = True
    silent: bool = False
    connecting: bool = False
    refused: bool = False


def read_refusal(err: BaseException) -> Refusal:
    """What a client's error says, without its status lines, byte strings and times."""
    status, content = getattr(err, "status_code", None), getattr(err, "content", None)
    if isinstance(status, int):
        return _read_answer(status, content, getattr(err, "headers", None))
    if hasattr(err, "retry_after_s"):  # what the client makes of a 429 that names a time
        return Refusal(_one_line(str(err)), 429)
    code = getattr(err, "code", None)
    if callable(code):  # gRPC
        return _read_grpc(err, getattr(code(), "name", ""))
    source = getattr(err, "source", err)
    return _read_trouble(source)


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help.

    >>> may_pass(ConnectionResetError()), may_pass(ValueError("no such collection"))
    (True, False)
    """
    refusal = read_refusal(error)
    if any(stays.search(refusal.sentence) for stays in _STAYS):
        return False
    if refusal.status is not None:
        return refusal.status in _PASSING_STATUS
    return refusal.silent and "certificate" not in refusal.sentence.lower()


def is_conflict(error: BaseException) -> bool:
    """Whether a name is taken: another process was first."""
    refusal = read_refusal(error)
    if refusal.status == 409:
        return True
    return refusal.status in (None, 400) and "already exists" in refusal.sentence


def is_missing(error: BaseException) -> bool:
    """Whether there is no such collection (and it is Qdrant that says so)."""
    refusal = read_refusal(error)
    if not refusal.from_qdrant or refusal.status not in (None, 404):
        return False
    return _MISSING.search(refusal.sentence) is not None


def is_refused(error: BaseException) -> bool:
    """Whether the request itself was refused, as by a collection that holds other vectors, or is gone.

    >>> is_refused(ValueError("Wrong input: Not existing vector name error: patches")), is_refused(TimeoutError())
    (True, False)
    """
    refusal = read_refusal(error)
    if refusal.silent or not refusal.from_qdrant:
        return False
    return refusal.status in (None, 400, 404, 422)


def _read_answer(status: int, content: Any, headers: Any) -> Refusal:
    """The refusal in an HTTP answer."""
    text = content
    if isinstance(content, (bytes, bytearray)):
        text = bytes(content).decode("utf-8", "replace")
    text = str(text or "").strip()
    if 300 <= status < 400:
        place = str((headers or {}).get("location", "another place")).partition("?")[0]
        return Refusal(f"it redirects to {_one_line(place)}", status, from_qdrant=False)
    if text[:1] == "<":
        return Refusal(f"status {status} and a web page{_title(text)}", status, from_qdrant=False)
    try:
        value = json.loads(text)
    except ValueError:
        return _read_text(status, text)
    said = _error_in(value)
    if said:
        return Refusal(_one_line(said), status)
    return Refusal(f"status {status} and JSON that is not Qdrant's: {_one_line(text)}", status, from_qdrant=False)


def _read_text(status: int, text: str) -> Refusal:
    """Qdrant refuses keys in plain text, and other services say anything."""
    if not text:
        return Refusal(f"status {status} without a word", status)
    if text[:1] in "{[":
        return Refusal(f"status {status} and an answer that is cut off: {_one_line(text)}", status)
    return Refusal(_one_line(text), status)


def _error_in(value: Any) -> str:
    """Qdrant's `{"status": {"error": "..."}}`; "" where there is none."""
    if not isinstance(value, dict) or not isinstance(value.get("status"), dict):
        return ""
    return str(value["status"].get("error") or "")


def _read_grpc(err: Any, code: str) -> Refusal:
    details = getattr(err, "details", None)
    said = str(details() or "") if callable(details) else ""
    status = _STATUS_OF_CODE.get(code, 500)
    # The library's own words for a connection that was never made.
    connecting = (
        code == "UNAVAILABLE"
        and re.search(r"failed to connect|connection refused|DNS", said, re.IGNORECASE) is not None
    )
    if connecting:
        return Refusal(f"no connection: {_one_line(said)}", None, silent=True, connecting=True, refused=True)
    return Refusal(_one_line(said) or f"gRPC status {code}", status)


def _read_trouble(source: BaseException) -> Refusal:
    """No answer, or one that the client could not read."""
    names, said = _class_names(source), _one_line(str(source))
    if "illegal header" in said.lower():  # the text goes on with the value, which is the key
        return Refusal("the key or a header holds characters that no request may carry, such as a line end")
    if "ConnectTimeout" in names:
        return Refusal("no connection in time", silent=True, connecting=True)
    if "ConnectError" in names or isinstance(source, ConnectionRefusedError):
        refused = "certificate" not in said.lower()
        text = f"no connection: {said or type(source).__name__}"
        return Refusal(text, silent=True, connecting=True, refused=refused)
    if "TimeoutException" in names or isinstance(source, TimeoutError):
        return Refusal("no answer within the time limit", silent=True)
    if "RemoteProtocolError" in names:
        return Refusal(f"the answer is cut off, or is no HTTP: {said}", silent=True)
    if isinstance(source, json.JSONDecodeError):
        return _read_no_json(source)
    if "ValidationError" in names:
        return Refusal("the answer is JSON, but not what Qdrant answers", from_qdrant=False)
    if isinstance(source, AssertionError):
        return Refusal(f"the answer lacks what Qdrant answers ({said})", from_qdrant=False)
    lost = isinstance(source, ConnectionError) or "TransportError" in names
    return Refusal(said or type(source).__name__, silent=lost)


def _read_no_json(source: json.JSONDecodeError) -> Refusal:
    """An answer with a status of success that is no JSON."""
    text = source.doc.strip()
    if not text:
        return Refusal("the answer is empty", from_qdrant=False)
    if text[0] == "<":
        return Refusal(f"the answer is a web page{_title(text)}", from_qdrant=False)
    if text[0] in "{[":
        return Refusal("the answer is cut off: its JSON does not end", silent=True)
    return Refusal(f"the answer is no JSON: {_one_line(text)[:80]}", from_qdrant=False)


def _title(page: str) -> str:
    """The title of a web page, for a message; "" where it has none."""
    found = re.search(r"<title[^>]*>([^<]{1,200})", page[:20_000], re.IGNORECASE)
    if found is None or not found[1].strip():
        return ""
    return f' ("{_one_line(found[1])}")'


def _one_line(text: str) -> str:
    said = printable(" ".join(text.split()))
    if len(said) <= _LONGEST:
        return said
    return said[:_LONGEST] + " ..."


def _class_names(err: BaseException) -> set[str]:
    """The names of an error's classes; by name, so that a file without a server needs no HTTP client."""
    return set(_names(type(err)))


def _names(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        yield each.__name__
