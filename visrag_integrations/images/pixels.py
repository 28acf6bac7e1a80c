"""Pictures in and out: open, turn into RGB, fit to a pixel budget, encode. Parts of pictures: `composing`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import operator
import pickle
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, Union

from visrag_integrations.errors import PictureError, SettingError

if TYPE_CHECKING:
    from PIL.Image import Image

PictureSource = Union["Image", bytes, Path, Callable[[], Union["Image", bytes]]]
"""Where a picture's pixels are: a PIL image, an encoded file's bytes, its path, or a function that gives either."""

MAX_PIXELS = 178_956_970
"""A file that declares more pixels than this is refused before it is decoded (a quarter of a gigabyte of grey)."""

# What decoders raise on bytes that are not what they claim to be.
DECODE_ERRORS: tuple[type[Exception], ...] = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, MemoryError, RuntimeError),
    *(struct.error, zlib.error),
)

# A picture is taken to be drawn in white on a clear ground when no more of it than this is opaque, and nearly all of
# that is lighter than this grey: on white it would be gone. A photograph with cut corners has less clear ground.
_MOSTLY_CLEAR = 0.9
_NEARLY_WHITE = 216
_ALL_BUT_FRINGES = 0.95
# White, in files that hold 16 bits a pixel and use fewer, as cameras and scanners for X-rays do: 8, 10, 12, 14 or all.
_DEEP_WHITE = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)

# How picture files begin; "II" and "MM" are TIFF in either byte order, 42 the usual and 43 the 64-bit variant.
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",
    b"MM\x00+": "TIFF",
    b"\x00\x00\x00\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
# ISO/IEC 23008-12 and the AV1 image format: what stands behind "ftyp".
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIF"),
}
# The modes each format writes as they are; anything else becomes RGB first.
_WRITABLE = {
    "JPEG": {"L", "RGB", "RGBX"},
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"},
    "WEBP": {"RGB", "RGBA"},
}


@dataclass(frozen=True, eq=False)
class Pixels:
    """RGB pixels as an engine drew them; called, they become a PIL image, a new one every time.

    Attributes:
        width: In pixels.
        height: In pixels.
        drawn: Row by row. It may be a view of the engine's own memory, which `owner` keeps alive: copying it costs a
            third of drawing it.
        owner: What must live as long as this.
        bytes_each: 3, or 4 of which the last one says nothing: PDFium draws such pixels faster, and the JPEG encoder
            takes them without a copy.
    """

    width: int
    height: int
    drawn: bytes | memoryview = field(repr=False)
    owner: object = field(default=None, repr=False)
    bytes_each: int = 3

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pixels):
            return NotImplemented
        return (self.width, self.height, self.data) == (other.width, other.height, other.data)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        data: Any = self.data
        if operator.index(protocol) >= 5:
            data = pickle.PickleBuffer(memoryview(data).toreadonly())  # whoever can send it without a copy does
        else:
            data = bytes(data)
        return Pixels, (self.width, self.height, data), {"digest": self.digest}

    def __call__(self) -> Image:
        from PIL import Image

        if self.bytes_each == 4:
            return self.as_drawn().convert("RGB")
        image = Image.new("RGB", (self.width, self.height), None)  # not filled first, which takes as long as copying
        image.frombytes(self.drawn)
        return image

    def as_drawn(self) -> Image:
        """A PIL image to be looked at only: of pixels of four bytes one that shares their memory, of mode "RGBX"."""
        from PIL import Image

        if self.bytes_each == 3:
            return self()
        drawn: Any = self.drawn  # Pillow takes a memoryview; its types do not say so
        return Image.frombuffer("RGBX", (self.width, self.height), drawn, "raw", "RGBX", 0, 1)

    @functools.cached_property
    def data(self) -> bytes | memoryview:
        """Three bytes for each pixel, row by row."""
        if self.bytes_each == 3:
            return self.drawn
        return self.as_drawn().tobytes("raw", "RGB")

    @functools.cached_property
    def digest(self) -> str:
        """The same for the same pixels."""
        return f"{self.width}x{self.height}\n{hashlib.sha256(self.data).hexdigest()}"

    @property
    def blank(self) -> bool:
        """Whether every pixel has the same colour.

        >>> Pixels(2, 1, bytes([9, 8, 7] * 2)).blank, Pixels(2, 1, bytes(range(6))).blank
        (True, False)
        >>> Pixels(2, 1, bytes([9, 8, 7, 0, 9, 8, 7, 255]), bytes_each=4).blank
        True
        """
        each = self.bytes_each
        first = bytes(self.drawn[:each]) * self.width
        for start in range(0, len(self.drawn), len(first)):  # row by row: nearly every page ends it at once
            row = bytes(self.drawn[start : start + len(first)])
            if row == first:
                continue
            for colour in range(3):
                if row[colour::each] != first[colour::each]:
                    return False
        return True


@dataclass(frozen=True)
class EncodedPixels:
    """The picture file of pixels that are not held any more; called, it gives the file's bytes.

    Attributes:
        data: The file.
        digest: Of the pixels it was made of.
    """

    data: bytes = field(repr=False)
    digest: str

    def __call__(self) -> bytes:
        return self.data

    @classmethod
    def of(cls, pixels: Pixels, format: str, quality: int) -> EncodedPixels:
        """The pixels as a file."""
        return cls(encode(pixels, format, quality), pixels.digest)


def open_picture(source: PictureSource, *, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture, decoded and upright (EXIF orientation applied); a PIL image is given back as a copy.

    Raises:
        PictureError: It cannot be opened or decoded, or declares more than `max_pixels`.
    """
    from PIL import ImageOps

    if not isinstance(source, (bytes, Path)):
        if not callable(source):
            return source.copy()
        made = source()
        if isinstance(made, bytes):
            return open_picture(made, max_pixels=max_pixels)
        return made
    with open_encoded(source, max_pixels=max_pixels) as image:
        try:
            image.load()
            upright: Image = ImageOps.exif_transpose(image)
        except DECODE_ERRORS as err:
            raise PictureError(
                f"{_name(source)} cannot be decoded: {err}. The file is damaged or cut off: make it anew."
            ) from err
    return upright


def open_encoded(source: bytes | Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """An encoded file as a lazy PIL image: its header is read and checked, its pixels are not decoded yet.

    Raises:
        PictureError: It is no picture, or declares more than `max_pixels`.
    """
    from PIL import Image

    try:
        with without_size_warnings():
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except Image.DecompressionBombError as err:
        raise PictureError(f"{_name(source)} is refused: {err}") from err
    except DECODE_ERRORS as err:
        raise PictureError(
            f"{_name(source)} is not a picture that can be opened: {err}. Copy or download it again, or save it "
            "anew as PNG."
        ) from err
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise PictureError(
            f"{_name(source)} declares {width} x {height} pixels; at most {max_pixels} are allowed. "
            "Scale it down, or raise the pixel limit if you trust the file."
        )
    return image


_warnings_lock = threading.Lock()


@contextlib.contextmanager
def without_size_warnings() -> Iterator[None]:
    """Pillow warns of pictures from half of `MAX_PIXELS` on, which are read here; larger ones are refused by name."""
    from PIL import Image

    # The filters are those of the whole process: two threads that put back what they found must not cross.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def sniff_format(data: bytes) -> str | None:
    """The picture format that the first bytes of a file name; None when they are no picture this library reads.

    >>> sniff_format(b"GIF89a"), sniff_format(b"%PDF-1.7")
    ('GIF', None)
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":  # a container of films too; only its brand says that it holds a picture
        return _BRANDS.get(data[8:12])
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    return None


def to_rgb(image: Image) -> Image:
    """The picture in RGB: transparency over white (over black where all that is drawn is nearly white), 16-bit and
    float values scaled, CMYK through its own profile.
    """
    if image.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        return _over_ground(image)
    if image.mode == "RGB":
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_to_grey(image).convert("RGB")
    if image.mode in {"CMYK", "LAB"}:
        return _managed_to_rgb(image)
    return image.convert("RGB")


def fit(image: Image, max_pixels: int) -> Image:
    """The picture scaled down to at most `max_pixels`, its shape kept; never enlarged.

    Palette and black-and-white pictures become RGB when they are scaled.

    >>> from PIL import Image
    >>> fit(Image.new("RGB", (400, 100)), 10_000).size
    (200, 50)
    """
    from PIL import Image

    width, height = fit_size(image.width, image.height, max_pixels)
    if (width, height) == image.size:
        return image
    if image.mode in {"1", "P", "PA"}:
        image = to_rgb(image)  # these modes have no colours between two colours
    # With a gap of 3, large pictures are reduced by whole factors first: faster, and to the eye the same.
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def fit_size(width: float, height: float, max_pixels: int) -> tuple[int, int]:
    """Width and height in whole pixels, scaled down together to at most `max_pixels`; each at least 1.

    >>> fit_size(1000, 1000, 250_000), fit_size(30, 20, 250_000), fit_size(9_000_000, 1, 1000)
    ((500, 500), (30, 20), (1000, 1))
    """
    if max_pixels < 1:
        raise SettingError(f"max_pixels is {max_pixels}; it must be 1 or more, for example 9 * 448 * 448.")
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    columns = max(1, int(width * scale))
    rows = max(1, int(height * scale))
    if columns == 1 or rows == 1:  # a line: rounding its short side up to 1 must not break the budget
        return min(columns, max_pixels), min(rows, max_pixels)
    return columns, rows


def encode(source: PictureSource, format: str = "JPEG", quality: int = 85) -> bytes:
    """The picture as the bytes of a "JPEG", "PNG" or "WEBP" file; a file of that format is given back as it is.

    Raises:
        SettingError: The format is none of these.
        PictureError: The picture cannot be opened, or does not fit the format.
    """
    kind = {"JPG": "JPEG"}.get(format.upper(), format.upper())
    if kind not in _WRITABLE:
        raise SettingError(f"Pictures cannot be written as {format!r}; use one of {', '.join(_WRITABLE)}.")
    if isinstance(source, Pixels):
        source = source.as_drawn()
    elif callable(source):
        source = source()
    if isinstance(source, Path):
        source = read_file(source)
    if isinstance(source, bytes) and sniff_format(source) == kind:
        return source
    image = open_picture(source) if isinstance(source, bytes) else source
    if image.mode not in _WRITABLE[kind] or "transparency" in image.info:
        image = to_rgb(image)
    options: dict[str, Any] = {}
    if kind != "PNG":  # which loses nothing
        options["quality"] = quality
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except DECODE_ERRORS as err:
        size = f"{image.width} x {image.height} pixels"
        raise PictureError(f"A picture of {size} cannot be written as {kind}: {err}. Try PNG.") from err
    return buffer.getvalue()


def _over_ground(image: Image) -> Image:
    """A picture with clear parts as it looks on white, or on black where nearly all that is drawn is white."""
    from PIL import Image

    ground = "black" if _vanishes_on_white(image) else "white"
    made = Image.new("RGB", image.size)
    for first, clear in _clear_strips(image):
        below = Image.new("RGBA", clear.size, ground)
        made.paste(Image.alpha_composite(below, clear).convert("RGB"), (0, first))
    return made


def _vanishes_on_white(image: Image) -> bool:
    """Whether a picture with a clear ground is drawn in white, as logos and captions for dark pages are."""
    opaque = light = 0
    for _, clear in _clear_strips(image):
        drawn = clear.getchannel("A").point(_is_opaque)
        opaque += drawn.histogram()[255]
        light += sum(clear.convert("RGB").convert("L").histogram(drawn)[_NEARLY_WHITE:])
    if not 0 < opaque < _MOSTLY_CLEAR * image.width * image.height:
        return False
    return light >= _ALL_BUT_FRINGES * opaque


def _clear_strips(image: Image) -> Iterator[tuple[int, Image]]:
    """First row and RGBA of each strip: all at once would be five copies of the picture, of four bytes a pixel."""
    for first, strip in _rows(image):
        if strip.mode == "La":
            strip = strip.convert("LA")  # there is no way from "La" to RGBA but this
        yield first, strip.convert("RGBA")


def _is_opaque(alpha: int) -> int:
    """255 for what is more drawn than clear, else 0."""
    return 255 * (alpha >= 128)


def _deep_to_grey(image: Image) -> Image:
    """Integers and floats of any range as 8-bit grey: 16-bit integers and 0..1 floats by their range."""
    import numpy as np
    from PIL import Image

    low = high = 0.0
    for _, values in _strips(image):
        low, high = min(low, float(values.min(initial=0.0))), max(high, float(values.max(initial=0.0)))
    top = _white_level(image.mode, high)
    made = Image.new("L", image.size)
    for first, values in _strips(image):
        if low < 0:
            grey = (values - low) * (255.0 / max(top - low, 1e-12))  # the lowest becomes black
        else:
            grey = values * (255.0 / top)
        made.paste(Image.fromarray(np.rint(grey).clip(0, 255).astype(np.uint8)), (0, first))
    return made


# Pixels of a strip. A small file can declare a fifth of a milliard of pixels, and as floats each takes eight bytes, in
# four or five copies; strips of a million keep that within some forty megabytes.
_STRIP = 1 << 20


def _strips(image: Image) -> Iterator[tuple[int, Any]]:
    """First row and values of each strip of a picture, as floats without NaN."""
    import numpy as np

    for first, strip in _rows(image):
        yield first, np.nan_to_num(np.asarray(strip, dtype=np.float64))


def _rows(image: Image) -> Iterator[tuple[int, Image]]:
    """First row and picture of each strip."""
    rows = max(1, _STRIP // max(1, image.width))
    for first in range(0, image.height, rows):
        yield first, image.crop((0, first, image.width, min(image.height, first + rows)))


def _white_level(mode: str, high: float) -> float:
    """The value that is white: files do not say it, so it is the smallest usual one that nothing exceeds."""
    if mode.startswith("I;16"):
        return next((usual for usual in _DEEP_WHITE if high <= usual), 65535.0)
    if mode == "F" and high <= 1.0:
        return 1.0
    for usual in (255.0, 65535.0):
        if high <= usual:
            return usual
    return high


def _managed_to_rgb(image: Image) -> Image:
    """CMYK and Lab as sRGB, through the file's own colour profile where it has one that works."""
    from PIL import ImageCms

    profile: bytes | None = image.info.get("icc_profile")
    if image.mode == "LAB" or profile:
        try:
            if profile:
                source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            else:
                source = ImageCms.createProfile("LAB")
            managed = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if managed is not None:
                return managed
        except (ImageCms.PyCMSError, OSError, ValueError) as err:
            # A damaged profile is left aside for CMYK; Pillow cannot turn Lab into RGB without one.
            if image.mode == "LAB":
                raise PictureError(f"A Lab picture cannot be converted to RGB: {err}. Save it as RGB first.") from err
    return image.convert("RGB")


def read_file(path: Path) -> bytes:
    """The bytes of a picture file.

    Raises:
        PictureError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as err:
        raise PictureError(f"{path} cannot be read: {err.strerror or err}.") from err


def _name(source: bytes | Path) -> str:
    if isinstance(source, bytes):
        return f"A picture of {len(source)} bytes"
    return str(source)
