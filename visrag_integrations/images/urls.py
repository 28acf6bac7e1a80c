"""Pictures that come as URLs: data URLs and base64 both ways, and remote ones, fetched when asked, within limits."""

from __future__ import annotations

import base64
import binascii
import functools
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from visrag_integrations import images
from visrag_integrations.errors import PictureError
from visrag_integrations.images.pixels import read_file

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

# Protects the memory from a server that never stops sending; far above the picture of a page.
MAX_FETCHED = 20 * 1024 * 1024
"""Bytes of a remote picture; a larger one is refused."""
# Of one wait for the server, not of the whole answer.
FETCH_SECONDS = 20.0
_MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


def data_url(picture: PictureSource) -> str:
    """The picture as a data URL; a JPEG, PNG, WEBP or GIF file is taken as it is, anything else becomes JPEG."""
    data, mime = encoded(picture)
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def encoded(picture: PictureSource) -> tuple[bytes, str]:
    """The picture as a file that browsers show, and its MIME type; one that is such a file is taken as it is.

    >>> encoded(b"GIF89a...")
    (b'GIF89a...', 'image/gif')

    Raises:
        PictureError: It cannot be opened.
    """
    if callable(picture):
        picture = picture()
    if isinstance(picture, Path):
        picture = read_file(picture)
    if isinstance(picture, bytes):
        kind = images.sniff_format(picture)
        if kind in _MIMES:
            return picture, _MIMES[kind]
    return images.encode(picture, "JPEG"), _MIMES["JPEG"]


def decode_data_url(url: str) -> bytes:
    """The bytes of a data URL.

    >>> decode_data_url("data:image/png;base64,aGk="), decode_data_url("data:,a%20b")
    (b'hi', b'a b')

    Raises:
        PictureError: It is damaged.
    """
    head, comma, body = url.partition(",")
    if not comma:
        raise PictureError(f"{short(url)} is no data URL: it has no comma. Give data:image/png;base64,...")
    if head.endswith(";base64"):
        return decode_base64(unquote(body))
    return unquote_to_bytes(body)


def decode_base64(text: str) -> bytes:
    """The bytes, whatever line breaks and padding.

    Raises:
        PictureError: It is not base64.
    """
    compact = "".join(text.split())
    try:
        padding = "=" * (-len(compact) % 4)  # up to a multiple of four; many leave it out
        return base64.b64decode(compact + padding, validate=True)
    except (binascii.Error, ValueError) as err:
        raise PictureError(f"A picture of {len(text)} characters is not valid base64: {err}.") from err


def picture_of_url(url: str, *, fetch_urls: bool = False) -> PictureSource:
    """Where the picture is that a URL speaks of; files and remote pictures are read when it is opened.

    >>> picture_of_url("data:image/png;base64,aGk="), picture_of_url("file:///a%20b.png").name
    (b'hi', 'a b.png')

    Args:
        url: `data:`, `file:`, or, while `fetch_urls` is on, http and https.
        fetch_urls: Whether http and https URLs are fetched.

    Raises:
        PictureError: It is damaged, of another kind, or remote while `fetch_urls` is off.
    """
    # A data URL may hold megabytes: only its beginning is parsed.
    scheme = urlsplit(url[:32]).scheme
    if scheme == "data":
        return decode_data_url(url)
    if scheme == "file":
        return Path(unquote(urlsplit(url).path))
    if scheme in ("http", "https"):
        return remote_picture(url, fetch_urls=fetch_urls)
    raise PictureError(f"{short(url)} is no URL of a picture; data:, file:, http: and https: URLs are.")


def remote_picture(url: str, *, fetch_urls: bool) -> PictureSource:
    """Where an http or https picture is; it is fetched when it is opened.

    Raises:
        PictureError: `fetch_urls` is off.
    """
    if not fetch_urls:
        raise PictureError(
            f"{short(url)} is a remote picture, and those are fetched only when asked: say fetch_urls=True, or give "
            "a file, bytes or a data URL."
        )
    return functools.partial(fetch, url)


def fetch(url: str) -> bytes:
    """The bytes behind an http or https URL, within limits on time and size.

    Raises:
        PictureError: It cannot be fetched, or is too large.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "visrag-integrations"})
    try:
        with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as answer:
            data: bytes = answer.read(MAX_FETCHED + 1)  # one byte more tells that it is too large
    except (urllib.error.URLError, OSError, ValueError) as err:
        raise PictureError(f"{short(url)} cannot be fetched: {err}.") from err
    if len(data) > MAX_FETCHED:
        raise PictureError(f"{short(url)} is larger than {MAX_FETCHED} bytes; fetch it yourself and give the bytes.")
    return data


def short(text: str) -> str:
    """The beginning of a long URL, quoted, for a message."""
    if len(text) > 80:
        text = text[:77] + "..."
    return repr(text)
