"""Bytes behind http and https URLs: one place for where a request may go, how long it may take, how much may come.

A URL may be the operator's own words (a document to index), or may come from a message, a document, or a redirect. The
first may go anywhere. The others must not reach this machine or its network: the address that is really connected to is
looked at, so that no name and no redirect leads there. `Destination` says which it is.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from visrag_integrations.errors import FetchError

MAX_REDIRECTS = 5
"""Browsers follow twenty; a document that is moved more than twice is hard to find."""
BLOCK = 1 << 16
"""Bytes read at a time: as much as one read of a socket gives."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGENT = "visrag-integrations"
_PORTS = {"http": 80, "https": 443}
# NAT64 and 6to4: an IPv6 address that holds an IPv4 one, behind which a private address could hide.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_PROTOCOLS = ipaddress.ip_network("192.0.0.0/24")  # of no use to fetch from; older versions of Python call it global
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


@dataclass(frozen=True)
class Destination:
    """Where a request may go.

    Attributes:
        private: Whether this machine and its network may be reached by the URL itself.
        hosts: Where not empty: no other host may be reached, not by redirects either.
    """

    private: bool = False
    hosts: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Fetched:
    """What came back.

    Attributes:
        url: Where it came from in the end.
        status: 200, or another one that is no error where these are asked for.
        headers: Names in small letters.
        data: The bytes; empty where they were written to a file.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    data: bytes = field(default=b"", repr=False)

    @property
    def content_type(self) -> str:
        """Its type without parameters, in small letters: "text/html"."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


def fetch(
    url: str,
    *,
    max_bytes: int,
    seconds: float,
    destination: Destination | None = None,
    file: BinaryIO | None = None,
    method: str = "GET",
) -> Fetched:
    """The bytes behind an http or https URL.

    Args:
        url: Where; `user:password@` is sent as basic authentication to that host only, and never told in an error.
        max_bytes: More than this is an error, declared or real.
        seconds: For all of it: names, connections, redirects and bytes.
        destination: Where the request may go; public addresses only by default.
        file: Where the bytes are written instead of being returned.
        method: "GET" or "HEAD".

    Raises:
        FetchError: It is no such URL, or goes where it may not, or cannot be fetched within the limits. Its `reason`
            says which, without the URL.
    """
    return _Fetch(url, max_bytes, seconds, destination or Destination(), file, method).run()


def http_address(url: str) -> SplitResult | None:
    """The parts of an http or https address; None where it is none, or its port is no number.

    >>> http_address("http://localhost:8000/v1").path
    '/v1'
    >>> http_address("localhost:8000") is http_address("http://host:port/") is None
    True
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if host is None or parts.scheme not in ("http", "https"):
        return None
    return parts


def without_credentials(url: str) -> str:
    """The URL as it may be shown: without user and password, and not too long.

    >>> without_credentials("https://me:secret@host/a.pdf")
    'https://host/a.pdf'
    """
    head, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    shown = head + separator + authority.rpartition("@")[2] + slash + path
    if len(shown) > 200:
        shown = shown[:197] + "..."
    return shown


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet's, not of this machine, its network, or a special use.

    >>> [is_public(a) for a in ("93.184.216.34", "127.0.0.1", "10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1")]
    [True, False, False, False, False]
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])  # "fe80::1%eth0" names an interface
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inside = found.ipv4_mapped or found.sixtofour
        if inside is None and found in _NAT64:
            inside = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
        if found in _NAT64_LOCAL or found.teredo is not None:
            return False
        # Old ways to write addresses of one's own network, which some systems still follow: fec0::1, ::127.0.0.1.
        if found.is_site_local or found.is_reserved:
            return False
    return found.is_global and not found.is_multicast and found not in _PROTOCOLS


class _Fetch:
    """One request with its redirects."""

    def __init__(
        self,
        url: str,
        max_bytes: int,
        seconds: float,
        destination: Destination,
        file: BinaryIO | None,
        method: str,
    ) -> None:
        self._given = url
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._destination = destination
        self._file = file
        self._method = method
        self._end = time.monotonic() + seconds
        self._first = ("", 0)
        self._authorization: str | None = None
        self._sock: socket.socket | None = None  # what the deadline ends

    def run(self) -> Fetched:
        url = self._given
        for hop in range(MAX_REDIRECTS + 1):
            parts = self._checked(url)
            if hop == 0:
                self._first = (parts.hostname or "", _port_of(parts))
                self._authorization = _authorization(parts)
            with self._connection(parts) as connection:
                try:
                    with contextlib.closing(self._ask(connection, parts)) as answer:
                        location = answer.getheader("Location")
                        if answer.status in REDIRECTS and location:
                            url = urljoin(_bare(parts), location)
                            continue
                        return self._received(answer, _bare(parts))
                except FetchError:
                    raise
                except (OSError, ValueError, http.client.HTTPException) as err:
                    raise self._failed(err) from err
        raise self._error(f"it is redirected more than {MAX_REDIRECTS} times.")

    def _checked(self, url: str) -> SplitResult:
        """The parts of a URL that may be asked for."""
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as err:
            raise self._error(f"it is no URL: {err}.") from err
        if parts.scheme.lower() not in _PORTS or not host:
            raise self._error("only http and https URLs with a host are fetched.")
        if any(character <= " " or character == "\x7f" for character in url):
            raise self._error("it holds blanks or control characters; write them as %20 and the like.")
        if self._destination.hosts and host not in self._destination.hosts:
            raise self._error(f"it leads to the host {host!r}, which is not among those allowed.")
        return parts

    def _may_be_private(self, host: str, port: int) -> bool:
        """The operator's own URL may; a redirect may only lead back to the server that the operator named."""
        return self._destination.private and (host, port) == self._first

    @contextlib.contextmanager
    def _connection(self, parts: SplitResult) -> Iterator[http.client.HTTPConnection]:
        host = parts.hostname or ""
        port = _port_of(parts)
        check = None if self._may_be_private(host, port) else is_public
        secure = parts.scheme.lower() == "https"
        proxy = _proxy_for(parts)
        with self._deadline():
            try:
                if proxy is None:
                    addresses = self._resolve(host, port, check)
                    connection = self._direct(host, port, addresses, secure)
                else:
                    if check is not None:
                        self._resolve(host, port, check)
                    connection = _through_proxy(proxy, host, port, secure, self._left())
                    connection.connect()
                    self._sock = connection.sock
            except (OSError, ValueError, http.client.HTTPException) as err:
                if isinstance(err, FetchError):
                    raise
                raise self._failed(err) from err
            try:
                yield connection
            finally:
                connection.close()

    def _direct(
        self, host: str, port: int, addresses: list[tuple[Any, ...]], secure: bool
    ) -> http.client.HTTPConnection:
        """A connection to one of these very addresses, whatever the name would be looked up to the next time."""
        sock = self._first_that_answers(addresses)
        self._sock = sock
        connection = http.client.HTTPConnection(host, port)
        try:
            if secure:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
                self._sock = sock
                connection.default_port = _PORTS["https"]  # so that the Host header has no ":443"
        except BaseException:
            sock.close()
            raise
        connection.sock = sock
        return connection

    def _first_that_answers(self, addresses: list[tuple[Any, ...]]) -> socket.socket:
        """A name often has an address of IPv6, which not every network reaches, and one of IPv4."""
        error: OSError = OSError("no address")
        for address in addresses:
            try:
                return socket.create_connection(address[:2], timeout=max(self._left(), 0.001))
            except OSError as err:
                error = err
        raise error

    def _resolve(self, host: str, port: int, check: Callable[[str], bool] | None) -> list[tuple[Any, ...]]:
        """The host's addresses; all of them must pass, whichever would be taken."""
        found: list[Any] = []

        def look_up() -> None:
            try:
                found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as err:
                found.append(err)

        # A look-up has no limit of its own, so it is waited for in another thread.
        thread = threading.Thread(target=look_up, daemon=True, name="visrag-look-up")
        thread.start()
        thread.join(self._left())
        if not found:
            raise FetchError(
                self._given, f"the name {host!r} was not found within {self._seconds:g} seconds.", late=True
            )
        if isinstance(found[0], BaseException):
            raise self._error(f"the name {host!r} is not known ({found[0]}).")
        addresses: list[tuple[Any, ...]] = [address for *_, address in found[0]]
        for address in addresses:
            if check is not None and not check(str(address[0])):
                raise self._error(
                    f"the host {host!r} is at {address[0]}, an address of this machine or its network. Such places "
                    "are reached only by URLs that the operator gives, never by those of messages, documents or "
                    "redirects."
                )
        return addresses

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Ends the connection when the time is over, however slowly its bytes drip."""

        def end() -> None:
            sock = self._sock
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self._left(), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._sock = None

    def _ask(self, connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
        path = parts.path or "/"
        if parts.query:
            path += f"?{parts.query}"
        path = quote(path, safe="%/:=&?~#+!$,;'@()*[]|")  # what is not ASCII in a URL as it was typed
        if isinstance(connection, _ProxyConnection):
            path = f"http://{parts.netloc.rpartition('@')[2]}{path}"
        headers = {"User-Agent": AGENT, "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
        if self._authorization is not None and (parts.hostname, _port_of(parts)) == self._first:
            headers["Authorization"] = self._authorization
        connection.request(self._method, path, headers=headers)
        return connection.getresponse()

    def _received(self, answer: http.client.HTTPResponse, url: str) -> Fetched:
        if answer.status in (404, 410):
            raise FetchError(self._given, "there is no such file. Check the URL.", missing=True)
        if not 200 <= answer.status < 300:
            raise self._error(f"the server answered {answer.status} {answer.reason}.")
        headers = {name.lower(): value for name, value in answer.getheaders()}
        declared = headers.get("content-length", "")
        if declared.isdigit() and len(declared) < 20 and int(declared) > self._max_bytes and self._method == "GET":
            raise self._too_large()
        if self._method == "HEAD":
            return Fetched(url, answer.status, headers)
        data = bytearray()
        size = 0
        while block := answer.read1(BLOCK):
            size += len(block)
            if size > self._max_bytes:
                raise self._too_large()
            if self._file is None:
                data += block
            else:
                self._file.write(block)
        # A connection that is cut off looks like an end; the declared length tells them apart.
        if self._left() <= 0 or (declared.isdigit() and len(declared) < 20 and size < int(declared)):
            raise self._failed(ConnectionError("the connection was cut off"))
        return Fetched(url, answer.status, headers, bytes(data))

    def _left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def _too_large(self) -> FetchError:
        return FetchError(self._given, f"it has more than {self._max_bytes} bytes.", too_large=True)

    def _failed(self, err: Exception) -> FetchError:
        if self._left() <= 0 or isinstance(err, TimeoutError):
            return FetchError(self._given, f"it did not come within {self._seconds:g} seconds.", late=True)
        return self._error(f"it cannot be fetched: {str(err).strip() or type(err).__name__}.")

    def _error(self, reason: str) -> FetchError:
        return FetchError(self._given, reason)


class _ProxyConnection(http.client.HTTPConnection):
    """To a proxy that is asked for whole URLs."""


def _through_proxy(
    proxy: SplitResult, host: str, port: int, secure: bool, seconds: float
) -> http.client.HTTPConnection:
    where, at = proxy.hostname or "", proxy.port or _PORTS.get(proxy.scheme, 80)
    headers = {}
    authorization = _authorization(proxy)
    if authorization is not None:
        headers["Proxy-Authorization"] = authorization
    if not secure:
        return _ProxyConnection(where, at, timeout=max(seconds, 0.001))
    connection = http.client.HTTPSConnection(where, at, timeout=max(seconds, 0.001))
    connection.set_tunnel(host, port, headers)
    return connection


def _proxy_for(parts: SplitResult) -> SplitResult | None:
    """The proxy that the environment names for this URL (`https_proxy`, `no_proxy`)."""
    proxy = urllib.request.getproxies().get(parts.scheme.lower())
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    return urlsplit(proxy)


def _port_of(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme.lower()]


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _bare(parts: SplitResult) -> str:
    """The URL without user, password and fragment."""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
