"""Pictures that come as URLs: data URLs and base64 both ways, and remote ones, fetched when asked, within limits."""

from __future__ import annotations

import base64
import binascii
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from visrag_integrations import fetching, images
from visrag_integrations.errors import FetchError, PictureError
from visrag_integrations.images.sending import load, picture_file

if TYPE_CHECKING:
    from visrag_integrations.images import PictureSource

# Protects the memory from a server that never stops sending; far above the picture of a page.
MAX_FETCHED = 20 * 1024 * 1024
"""Bytes of a remote picture; a larger one is refused."""
FETCH_SECONDS = 20.0
"""For all of a remote picture: a server that drips a byte a second gets no more."""
FetchUrls = bool | Literal["private"]
"""Whether http and https URLs are fetched: False, True (public addresses only), or "private" (also this machine and its
network: only where every URL is your own)."""


def data_url(picture: PictureSource) -> str:
    """The picture as a data URL; see `encoded`."""
    data, mime = encoded(picture)
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def encoded(picture: PictureSource) -> tuple[bytes, str]:
    """The picture as a file that browsers show, and its MIME type.

    A GIF file is taken as it is, and so is a JPEG, PNG or WebP file that every viewer shows the same, without its
    metadata (see `sending.picture_file`). Anything else is encoded.

    >>> encoded(b"GIF89a...")
    (b'GIF89a...', 'image/gif')

    Raises:
        PictureError: It cannot be opened.
    """
    loaded = load(picture)
    if isinstance(loaded, bytes) and images.sniff_format(loaded) == "GIF":
        return loaded, "image/gif"
    return picture_file(loaded)


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


def picture_of_url(url: str, *, fetch_urls: FetchUrls = False) -> PictureSource:
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


def remote_picture(url: str, *, fetch_urls: FetchUrls) -> PictureSource:
    """Where an http or https picture is; it is fetched when it is opened.

    Raises:
        PictureError: `fetch_urls` is off.
    """
    if not fetch_urls:
        raise PictureError(
            f"{short(url)} is a remote picture, and those are fetched only when asked: say fetch_urls=True, or give "
            "a file, bytes or a data URL."
        )
    return functools.partial(fetch, url, private=fetch_urls == "private")


def fetch(url: str, *, private: bool = False) -> bytes:
    """The bytes behind an http or https URL, within limits on time and size.

    Args:
        url: Where.
        private: Whether addresses of this machine and its network may be asked.

    Raises:
        PictureError: It cannot be fetched, is too large, or leads where it must not.
    """
    try:
        found = fetching.fetch(
            url, max_bytes=MAX_FETCHED, seconds=FETCH_SECONDS, destination=fetching.Destination(private)
        )
    except FetchError as err:
        if err.too_large:
            raise PictureError(
                f"{short(url)} is larger than {MAX_FETCHED} bytes; fetch it yourself and give the bytes."
            ) from err
        raise PictureError(f"{short(url)} cannot be fetched: {err.reason}") from err
    return found.data


def short(text: str) -> str:
    """The beginning of a long URL, quoted, for a message; without user and password."""
    if "@" in text[:500] and text[:8].lower().startswith(("http://", "https://")):
        text = fetching.without_credentials(text)
    if len(text) > 80:
        text = text[:77] + "..."
    return repr(text)
