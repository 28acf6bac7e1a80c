"""Limits on what a request asks for, and the picture of a query."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from fastapi import Request

from visrag_integrations import images
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.images.urls import decode_base64, decode_data_url, short

if TYPE_CHECKING:
    from visrag_integrations.servers.http.settings import ServeSettings


def check_text(text: str, settings: ServeSettings, what: str = "text") -> None:
    """Refuses a text that is too long."""
    if len(text) > settings.max_query_characters:
        raise SettingError(
            f"{what} has {len(text)} characters; at most {settings.max_query_characters} are allowed. Shorten it."
        )


def check_top_k(top_k: int | None, settings: ServeSettings) -> None:
    """Refuses a number of pages beyond the limit."""
    if top_k is not None and top_k > settings.max_top_k:
        # Python refuses to write numbers of thousands of digits, and JSON may hold one.
        shown = top_k if top_k < 10**9 else "huge"
        raise SettingError(f"top_k is {shown}; at most {settings.max_top_k} are allowed.")


def check_is_here(request: Request) -> None:
    """Refuses a client on another machine: paths of this one are of no use there, and none of its business."""
    client = request.client.host if request.client else ""
    try:
        here = ipaddress.ip_address(client).is_loopback
    except ValueError:
        here = False
    # A proxy on this machine asks for somebody else.
    if not here or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        raise SettingError("This server gives paths of its own machine, to programs on that machine only.")


def query_picture(text: str, settings: ServeSettings) -> bytes:
    """The picture file of a query, from base64 or a data URL; nothing is fetched, no path is opened.

    Raises:
        SettingError: It is not a picture, too large, or its format cannot be read.
    """
    try:
        if text[:5].lower() == "data:":
            data = decode_data_url(text)
        elif "://" in text[:20]:
            raise PictureError(f"{short(text)} is an address, and this server fetches nothing. Send the picture.")
        else:
            data = decode_base64(text)
        if images.sniff_format(data) is None:
            raise PictureError("These bytes are no JPEG, PNG, WEBP, GIF, BMP or TIFF file.")
        images.open_picture(data, max_pixels=settings.max_pixels).close()  # a broken one is refused here
    except PictureError as err:
        raise SettingError(f"image cannot be used: {err}") from err
    return data
