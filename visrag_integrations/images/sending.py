"""Pictures on their way to a model or a browser: files that all show the same go as they are, without metadata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visrag_integrations.errors import SettingError
from visrag_integrations.images.file_metadata import without_metadata
from visrag_integrations.images.pixels import (
    DECODE_ERRORS,
    PictureSource,
    encode,
    fit,
    open_encoded,
    open_picture,
    read_file,
    sniff_format,
    to_rgb,
)

if TYPE_CHECKING:
    from PIL.Image import Image

_MIMES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
_PLAIN_MODES = frozenset({"1", "L", "P", "RGB"})
"""Modes that every program shows alike: no transparency, no ink colours, no 16 bits."""
_DRAWN = frozenset({"PNG", "GIF", "BMP"})
"""Formats of screenshots and drawings: as JPEG their small print would blur, as PNG they stay small."""
_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright
_PNG_DEPTH = 24  # where a PNG says how many bits a colour has; Pillow does not tell of RGB
_SMALLER = 0.8
"""Of the pixels that would just fit by proportion: a scaled picture takes more bytes a pixel than the large one. Nearer
to 1 needs more rounds, farther below throws pixels away."""


class PictureFile(NamedTuple):
    """An encoded picture and its MIME type."""

    data: bytes
    mime: str


def picture_file(
    source: PictureSource,
    *,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
    format: str | None = None,
    quality: int = 85,
) -> PictureFile:
    """The picture as a JPEG, PNG or WebP file without metadata; such a file goes as it is, if all show it the same.

    Encoded again are: pictures that are turned by EXIF, transparent, CMYK or of 16 bits, or have several frames (the
    first is taken), files of other formats, and what is larger than the limits.

    Args:
        source: The picture.
        max_pixels: Larger ones are scaled down.
        max_bytes: Of the file; larger ones become JPEG and are scaled down until they fit.
        format: In which it is encoded where it has to be; PNG for PNG, GIF and BMP files and JPEG for all others when
            None.
        quality: Of JPEG and WebP.

    Raises:
        PictureError: It cannot be opened.
        SettingError: A limit below 1.
    """
    for name, limit in (("max_pixels", max_pixels), ("max_bytes", max_bytes)):
        if limit is not None and limit < 1:
            raise SettingError(f"{name} is {limit}; it must be 1 or more, or None for no limit.")
    loaded = load(source)
    if isinstance(loaded, bytes):
        file = unchanged(loaded)
        if file is not None and _fits(file, max_pixels, max_bytes):
            return file
    image = plain(loaded)
    if max_pixels is not None:
        image = fit(image, max_pixels)
    file = encoded_file(image, format or _usual_format(loaded), quality)
    if max_bytes is not None and len(file.data) > max_bytes:
        return _within(image, max_bytes, quality)
    return file


def load(source: PictureSource) -> Image | bytes:
    """The pixels, or the file, of a picture, wherever it is."""
    if callable(source):
        source = source()
    if isinstance(source, Path):
        return read_file(source)
    return source


def unchanged(data: bytes) -> PictureFile | None:
    """The file without its metadata, where every viewer shows it the same; None where it has to be encoded again.

    Raises:
        PictureError: It is no picture, or declares too many pixels.
    """
    kind = sniff_format(data)
    if kind not in _MIMES or not _shows_the_same(data, kind):
        return None
    stripped = without_metadata(data)
    if stripped is None:
        return None
    return PictureFile(stripped, _MIMES[kind])


def plain(loaded: Image | bytes) -> Image:
    """The pixels upright, in RGB, grey, or black and white.

    Raises:
        PictureError: They cannot be decoded.
    """
    image = open_picture(loaded)
    if image.mode in {"1", "L", "RGB"} and "transparency" not in image.info:
        return image
    return to_rgb(image)


def encoded_file(image: Image, format: str, quality: int) -> PictureFile:
    """The pixels as a file that has nothing but them."""
    data = encode(image, format, quality)
    # Pillow writes comments of the file it opened into the new one.
    return PictureFile(without_metadata(data) or data, _MIMES[sniff_format(data) or "JPEG"])


def upright_size(loaded: Image | bytes) -> tuple[int, int]:
    """Width and height as it is shown; of a file only the header is read.

    Raises:
        PictureError: It is no picture.
    """
    if not isinstance(loaded, bytes):
        return loaded.size
    with open_encoded(loaded) as image:
        width, height = image.size
        if _orientation(image) >= 5:  # 5 to 8 lie on their side
            return height, width
        return width, height


def _usual_format(loaded: Image | bytes) -> str:
    if isinstance(loaded, bytes) and sniff_format(loaded) in _DRAWN:
        return "PNG"
    return "JPEG"


def _shows_the_same(data: bytes, kind: str) -> bool:
    if kind == "PNG" and data[_PNG_DEPTH : _PNG_DEPTH + 1] == b"\x10":
        return False
    with open_encoded(data) as image:
        if image.mode not in _PLAIN_MODES or "transparency" in image.info:
            return False
        # Of a JPEG that carries further pictures ("MPO") only the first stays, which is what viewers show.
        if kind != "JPEG" and getattr(image, "n_frames", 1) != 1:
            return False
        return _orientation(image) == 1


def _orientation(image: Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except DECODE_ERRORS:  # damaged EXIF data; nothing turns such a picture
        return 1
    if isinstance(found, int) and 2 <= found <= 8:
        return found
    return 1  # other values mean nothing


def _fits(file: PictureFile, max_pixels: int | None, max_bytes: int | None) -> bool:
    if max_bytes is not None and len(file.data) > max_bytes:
        return False
    if max_pixels is None:
        return True
    width, height = upright_size(file.data)
    return width * height <= max_pixels


def _within(image: Image, max_bytes: int, quality: int) -> PictureFile:
    """The picture as JPEG, scaled down until it takes no more bytes; the smallest there is where even that takes more.

    A picture of 400,000 bytes for 100,000 is scaled to a fifth of its pixels, then a little more where needed.
    """
    while True:
        file = encoded_file(image, "JPEG", quality)
        pixels = image.width * image.height
        if len(file.data) <= max_bytes or pixels == 1:
            return file
        share = _SMALLER * min(1.0, max_bytes / len(file.data))
        image = fit(image, max(1, math.floor(pixels * share)))
