"""`fetching`: what stands behind http URLs, within limits on place, time and size."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from visrag_integrations.errors import FetchError, PictureError
from visrag_integrations.fetching import Destination, fetch, is_public, without_credentials
from visrag_integrations.images import urls

OWN = Destination(private=True)
"""As for a URL that the operator typed."""


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "12345")
        self.end_headers()

    def do_GET(self) -> None:
        site: ThreadingHTTPServer = self.server  # type: ignore[assignment]
        name = self.path.partition("?")[0]
        if name == "/drip":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self._drip()
        elif name == "/drip-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self._drip()
        elif name == "/drip-chunks":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self._drip(b"1\r\nx\r\n")
        elif name == "/drip-continue":
            self._drip(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif name == "/cut":
            self._send(200, b"half", {"Content-Length": "100"})
        elif name == "/gone":
            self._send(404, b"no")
        elif name == "/broken":
            self._send(500, b"no")
        elif name == "/large":
            self._send(200, b"x" * 5000)
        elif name == "/undeclared":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"x" * 5000)
            self.close_connection = True
        elif name.startswith("/to"):
            self._send(302, b"", {"Location": self.path.partition("?")[2]})
        elif name == "/loop":
            self._send(302, b"", {"Location": "/loop"})
        else:
            site.seen.append(self.headers.get("Authorization"))  # type: ignore[attr-defined]
            body = f"{self.path} {self.headers.get('Host')}".encode()
            self._send(200, body, {"Content-Type": "Text/HTML; charset=x"})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def _drip(self, piece: bytes = b"x") -> None:
        try:
            while True:
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            self.close_connection = True


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as site:
        site.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield site
        site.shutdown()


@pytest.fixture
def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def refused(
    url: str, destination: Destination | None = OWN, *, seconds: float = 30.0, max_bytes: int = 1000
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(url, max_bytes=max_bytes, seconds=seconds, destination=destination)
    return caught.value


def test_bytes_headers_and_where_they_came_from(url: str) -> None:
    found = fetch(f"{url}/a%20b?c=d&e=%C3%A9", max_bytes=1000, seconds=30, destination=OWN)
    assert found.data.decode() == f"/a%20b?c=d&e=%C3%A9 {url.removeprefix('http://')}"
    assert found.content_type == "text/html"
    assert fetch(f"{url}/to?/there", max_bytes=1000, seconds=30, destination=OWN).url == f"{url}/there"


def test_letters_of_any_language_in_a_url(url: str) -> None:
    assert fetch(f"{url}/größe", max_bytes=1000, seconds=30, destination=OWN).data.startswith(b"/gr%C3%B6%C3%9Fe ")


@pytest.mark.parametrize("path", ["/drip", "/drip-head", "/drip-chunks", "/drip-continue"])
def test_a_server_that_drips_gets_the_time_for_all_of_it(url: str, path: str) -> None:
    error = refused(url + path, seconds=0.5, max_bytes=1 << 30)
    assert error.late
    assert "0.5 seconds" in error.reason


@pytest.mark.parametrize("path", ["/large", "/undeclared"])
def test_declared_and_real_size_are_limited(url: str, path: str) -> None:
    assert refused(url + path).too_large
    assert len(fetch(url + path, max_bytes=5000, seconds=30, destination=OWN).data) == 5000


def test_what_the_server_refuses(url: str) -> None:
    assert refused(f"{url}/gone").missing
    assert "answered 500" in refused(f"{url}/broken").reason
    assert "cut off" in refused(f"{url}/cut").reason
    assert "more than 5 times" in refused(f"{url}/loop").reason


@pytest.mark.parametrize(
    "bad",
    [
        "file:///etc/passwd",
        "ftp://host/a",
        "http://",
        "http:///a",
        "https://host/a b",
        "http://host/a\nb",
        "http://h:x/",
        "a.png",
    ],
)
def test_only_http_urls(bad: str) -> None:
    refused(bad)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::127.0.0.1]", "[::ffff:7f00:1]", "0"]
)
@pytest.mark.parametrize("path", ["", "to?"])
def test_other_ways_to_write_this_machine(url: str, server: ThreadingHTTPServer, host: str, path: str) -> None:
    """Given, or in a redirect of a server that the operator named."""
    before = len(server.seen)  # type: ignore[attr-defined]
    target = f"http://{host}:{server.server_port}/secret"
    error = refused(f"{url}/to?{target}") if path else refused(target, None)
    assert "of this machine" in error.reason or "cannot be reached" in error.reason, error.reason
    assert len(server.seen) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/"])
def test_redirects_are_http_too(url: str, target: str) -> None:
    assert "only http and https" in refused(f"{url}/to?{target}").reason


def test_addresses_of_this_machine_are_asked_only_where_the_operator_named_them(
    url: str, server: ThreadingHTTPServer
) -> None:
    port = server.server_port
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "0x7f000001", "2130706433", "0.0.0.0"):
        error = refused(f"http://{host}:{port}/", Destination())
        assert "of this machine or its network" in error.reason, host


def test_a_redirect_may_lead_back_to_the_named_server_only(url: str, server: ThreadingHTTPServer) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as other:
        other.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=other.serve_forever, daemon=True).start()
        assert fetch(f"{url}/to?{url}/back", max_bytes=100, seconds=30, destination=OWN).status == 200
        for target in (f"http://127.0.0.1:{other.server_port}/", f"http://localhost:{server.server_port}/"):
            assert "of this machine" in refused(f"{url}/to?{target}").reason
        assert other.seen == []  # type: ignore[attr-defined]
        other.shutdown()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        *((private, False) for private in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254")),
        *((private, False) for private in ("0.0.0.0", "100.64.0.1", "224.0.0.1", "255.255.255.255", "::", "::1")),
        *((private, False) for private in ("fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "ff02::1")),
        *(
            (private, False)
            for private in ("240.0.0.1", "198.18.0.1", "192.0.0.8", "fec0::1", "::127.0.0.1", "2001::1")
        ),
        *((private, False) for private in ("2002:7f00:1::", "64:ff9b:1::1", "no address")),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_only_the_hosts_that_are_named(url: str) -> None:
    assert fetch(f"{url}/x", max_bytes=100, seconds=30, destination=Destination(True, frozenset({"127.0.0.1"}))).data
    assert "not among those allowed" in refused(f"{url}/x", Destination(True, frozenset({"example.org"}))).reason


def test_a_password_goes_to_its_host_and_into_no_message(url: str, server: ThreadingHTTPServer) -> None:
    server.seen.clear()  # type: ignore[attr-defined]
    secret = url.replace("http://", "http://me:s%3Acret@")
    fetch(f"{secret}/x", max_bytes=100, seconds=30, destination=OWN)
    assert server.seen == ["Basic bWU6czpjcmV0"]  # type: ignore[attr-defined]
    for error in (refused(f"{secret}/gone"), refused(f"{secret}/to?file:///x"), refused(f"{secret}/ y")):
        assert "cret" not in f"{error} {error.url} {error.reason}"
    assert without_credentials("s3://key:secret@bucket/a@b") == "s3://bucket/a@b"


def test_the_size_is_asked_without_the_bytes(url: str) -> None:
    assert fetch(url, max_bytes=0, seconds=30, destination=OWN, method="HEAD").headers["content-length"] == "12345"


def test_errors_travel_between_processes(url: str) -> None:
    error = refused(f"{url}/gone")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.missing) == (str(error), True)


def test_pictures_are_fetched_within_the_same_limits(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PictureError, match="of this machine or its network"):
        urls.fetch(f"{url}/x")
    assert urls.fetch(f"{url}/x", private=True).startswith(b"/x ")
    monkeypatch.setattr(urls, "FETCH_SECONDS", 0.5)
    with pytest.raises(PictureError, match=r"0\.5 seconds"):
        urls.fetch(f"{url}/drip", private=True)
    for bad in ("file:///etc/passwd", "http://host/a\r\nb"):
        with pytest.raises(PictureError):
            urls.fetch(bad, private=True)
