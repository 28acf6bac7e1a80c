"""Picture files without what they tell about places, cameras and people. The pixels are not decoded, nor changed.

Kept is what a viewer needs to show the picture: its size, tables, pixels and colour profile. Everything else goes:
EXIF, XMP, IPTC, comments, times, thumbnails, and whatever stands behind the end of the picture.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from visrag_integrations.images.pixels import sniff_format

# --- JPEG: segments of a marker (two bytes, the first FF), their length (two bytes) and their content -----------------
_SCAN = 0xDA  # pixels follow it, without a length
_END = 0xD9
_COMMENT = 0xFE
_APPLICATION = range(0xE0, 0xF0)
"""Markers of segments that programs added. Those of `_SHOWN_SEGMENTS` change how the picture looks."""
_SHOWN_SEGMENTS = ((0xE0, b"JFIF\x00"), (0xE2, b"ICC_PROFILE\x00"), (0xEE, b"Adobe"))
_RESTARTS = range(0xD0, 0xD8)  # stand among the pixels

# --- PNG: chunks of a length, a name, a content and a checksum --------------------------------------------------------
_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_SHOWN_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"pHYs"}
)

# --- WebP: chunks of a name, a length and a content -------------------------------------------------------------------
_SHOWN_WEBP = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP"})
_SAYS_METADATA = 0x08 | 0x04  # the bits of VP8X that announce EXIF and XMP


def without_metadata(data: bytes) -> bytes | None:
    """The JPEG, PNG or WebP file without its metadata; the same bytes where it has none.

    None where it is no such file, or is not whole: whoever asked opens it and finds out what is wrong.
    """
    rewrite = _REWRITE.get(sniff_format(data) or "")
    if rewrite is None:
        return None
    try:
        return rewrite(data)
    except (ValueError, IndexError):  # it ends too early, or its parts do not follow each other
        return None


def _jpeg(data: bytes) -> bytes:
    kept = [data[:2]]
    place = 2
    while True:
        marker, place = _marker(data, place)
        if marker == _END:
            return b"".join([*kept, data[place : place + 2]])
        end = place + 2 + _number(data, place + 2, 2, "big")
        segment = _part(data, place, end)
        if _is_shown(marker, segment[4:]):
            kept.append(segment)
        place = end
        if marker == _SCAN:
            place = _end_of_scan(data, end)
            kept.append(data[end:place])


def _marker(data: bytes, place: int) -> tuple[int, int]:
    """The marker that stands here, and where: bytes of FF may fill the space before it."""
    if data[place] != 0xFF:
        raise ValueError("no marker")
    while data[place + 1] == 0xFF:
        place += 1
    return data[place + 1], place


def _is_shown(marker: int, content: bytes) -> bool:
    if marker == _COMMENT:
        return False
    if marker not in _APPLICATION:
        return True
    return any(marker == shown and content.startswith(begin) for shown, begin in _SHOWN_SEGMENTS)


def _end_of_scan(data: bytes, place: int) -> int:
    """Where the next marker stands that does not belong to the pixels: FF 00 is a byte, FF D0 to FF D7 a restart."""
    while True:
        place = data.index(b"\xff", place)
        following = data[place + 1]
        if following == 0 or following in _RESTARTS:
            place += 2
        elif following == 0xFF:
            place += 1
        else:
            return place


def _png(data: bytes) -> bytes:
    kept = [_PNG_BEGIN]
    place = len(_PNG_BEGIN)
    while True:
        end = place + 12 + _number(data, place, 4, "big")
        chunk = _part(data, place, end)
        name = chunk[4:8]
        if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
            raise ValueError("damaged")
        if name in _SHOWN_CHUNKS:
            kept.append(chunk)
        if name == b"IEND":
            return b"".join(kept)
        place = end


def _webp(data: bytes) -> bytes:
    whole = _part(data, 0, 8 + _number(data, 4, 4, "little"))
    kept = [b"WEBP"]
    place = 12
    while place < len(whole):
        length = _number(whole, place + 4, 4, "little")
        end = place + 8 + length + length % 2  # every chunk begins at an even place
        chunk = _part(whole, place, end)
        if chunk[:4] == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_SAYS_METADATA]) + chunk[9:]
        if chunk[:4] in _SHOWN_WEBP:
            kept.append(chunk)
        place = end
    body = b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _number(data: bytes, place: int, size: int, order: str) -> int:
    found = _part(data, place, place + size)
    if order == "big":
        return int.from_bytes(found, "big")
    return int.from_bytes(found, "little")


def _part(data: bytes, start: int, end: int) -> bytes:
    """These bytes; an error where the file ends before them, which a slice would hide."""
    if end > len(data):
        raise ValueError("cut off")
    return data[start:end]


_REWRITE: dict[str, Callable[[bytes], bytes]] = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}
