"""What all servers check alike: by which name they are called, how large a body is, and whether a secret is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from visrag_integrations.servers.demo.gate import Gate, GateSettings
from visrag_integrations.servers.web.access import same_secret
from visrag_integrations.servers.web.asgi import header, path_of
from visrag_integrations.servers.web.hosts import LOOPBACK, AllowHosts, allowed_names, host_name, host_of
from visrag_integrations.servers.web.limits import BodyTooLargeError, CountedBody, declared_length

NOT_LOOPBACK = [
    "",
    " ",
    ":8000",
    "[]",
    "[::1",
    "::1",
    "::1]",
    "[::1].evil.com",
    "[::1]evil.com",
    "[::1]:8000.evil.com",
    "[::1]@evil.com",
    "[[::1]]",
    "[localhost]",
    "[127.0.0.1]",
    "[::1%25eth0]",
    "[::ffff:127.0.0.1]",
    "localhost.evil.com",
    "localhost.evil.com:8000",
    "evil.com:localhost",
    "127.0.0.1.evil.com",
    "127.0.0.1.",
    "localhost.",
    "localhost:",
    "localhost:x",
    "localhost:8000:8000",
    "localhost:123456",
    "localhost:８０",
    "user:pass@localhost",
    "user:pass@localhost:8000",
    "localhost@evil.com",
    "localhost:pass@evil.com",
    "localhost, evil.com",
    "localhost,evil.com",
    "localhost evil.com",
    "localhost/evil.com",
    "localhost#evil.com",
    "localhost\\evil.com",
    "localhost%2eevil.com",
    "localhost\n",
    "\tlocalhost",
    "http://localhost",
    "ｌocalhost",
]


def scope_of(*hosts: bytes, path: str = "/", **more: Any) -> dict[str, Any]:
    headers = [(b"host", host) for host in hosts]
    return {"type": "http", "method": "GET", "path": path, "headers": headers, **more}


async def status_of(app: Any, scope: dict[str, Any]) -> int:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


async def passes(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


GUARDS = {
    "web": AllowHosts(passes, LOOPBACK),
    "demo": Gate(passes, GateSettings(lambda: 1, 1, Path("incoming"), hosts=LOOPBACK)),
}


@pytest.mark.parametrize("host", NOT_LOOPBACK)
def test_only_the_whole_name_is_a_loopback_name(host: str) -> None:
    assert host_name(host) not in LOOPBACK


@pytest.mark.parametrize("guard", GUARDS)
async def test_one_rule_for_all_servers(guard: str) -> None:
    for host in ("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:65535", "[0:0::0:1]:80"):
        assert await status_of(GUARDS[guard], scope_of(host.encode())) == 200, host
    for host in NOT_LOOPBACK:
        assert await status_of(GUARDS[guard], scope_of(host.encode())) == 421, host
    assert await status_of(GUARDS[guard], scope_of()) == 421
    for hosts in ((b"localhost", b"evil.com"), (b"evil.com", b"localhost"), (b"localhost", b"localhost")):
        assert await status_of(GUARDS[guard], scope_of(*hosts)) == 421, hosts


async def test_a_second_host_in_capitals_is_seen() -> None:
    scope = scope_of(b"localhost")
    scope["headers"].append((b"Host", b"evil.com"))
    assert host_of(scope) is None


def test_names_are_given_with_brackets_or_without() -> None:
    assert allowed_names(["[::1]", "LOCALHOST"]) == allowed_names(["0:0:0:0:0:0:0:1", "localhost"])
    assert allowed_names(LOOPBACK) == set(LOOPBACK)


async def body_of(pieces: list[bytes], limit: int) -> bytes | None:
    async def receive() -> Any:
        if not pieces:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    return await CountedBody(receive, limit).read()


async def test_a_body_is_counted_as_it_comes() -> None:
    assert await body_of([b"1234", b"56"], 6) is None  # the client went away before the end
    with pytest.raises(BodyTooLargeError):
        await body_of([b"1234", b"567"], 6)


@pytest.mark.parametrize(
    ("declared", "length"), [(b"12", 12), (b"-1", 0), (b"1_0", 0), (b"", 0), (b"\xb2", 0), (b"9" * 5000, 10**20 - 1)]
)
def test_what_a_request_declares_is_a_number_or_nothing(declared: bytes, length: int) -> None:
    assert declared_length({"headers": [(b"content-length", declared)]}) == length


async def test_a_body_that_declares_thousands_of_digits_is_refused_by_the_demo() -> None:
    scope = scope_of(b"localhost", path="/gradio_api/cancel")
    scope |= {"method": "POST", "headers": [*scope["headers"], (b"content-length", b"9" * 5000)]}
    assert await status_of(GUARDS["demo"], scope) == 413


def test_the_path_is_the_one_inside_the_app() -> None:
    mounted = {"root_path": "/demo"}
    paths = {"/demo": "/", "/demo/": "/", "/demo/config": "/config", "/demos": "/demos", "/config": "/config"}
    for path, inside in paths.items():
        assert path_of(scope_of(path=path, **mounted)) == inside


def test_headers_and_secrets() -> None:
    assert header({"headers": [(b"a", b"1"), (b"A", b"2")]}, "A") == "1"
    assert header({"headers": []}, "A") == ""
    assert same_secret("a\udcff", "a\udcff")
    assert not same_secret("a\udcff", "a?")
