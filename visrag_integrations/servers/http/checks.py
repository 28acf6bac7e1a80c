"""Limits on what a request asks for, and the picture of a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from visrag_integrations import images
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.images.urls import decode_base64, decode_data_url, short

if TYPE_CHECKING:
    from visrag_integrations.servers.http.settings import ServeSettings

# A filter is walked by several steps, each of which nests as deep: far below Python's limit of recursion. People write
# two or three levels, and lists of ids of a few hundred.
_FILTER_DEPTH = 16
_FILTER_VALUES = 1_000


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


def check_filter(filter: Mapping[str, Any] | None) -> None:
    """Refuses a filter that is nested deeper or longer than anybody needs."""
    for number, depth in enumerate(_depths(filter), 1):
        if depth > _FILTER_DEPTH or number > _FILTER_VALUES:
            raise SettingError(
                f"The filter is too large: at most {_FILTER_DEPTH} levels and {_FILTER_VALUES} values are allowed."
            )


def _depths(value: Any) -> Iterator[int]:
    """How deep each value inside stands; lazily, so that counting can stop.

    >>> list(_depths({"year": {"gte": 2003}}))
    [0, 1, 2]
    """
    waiting = [(0, value)]
    while waiting:
        depth, value = waiting.pop()
        yield depth
        if isinstance(value, Mapping):
            waiting += [(depth + 1, inner) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(depth + 1, inner) for inner in value]


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
