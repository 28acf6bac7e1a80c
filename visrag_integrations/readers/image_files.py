"""Pages from picture files: one a file, one a frame of a TIFF."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from visrag_integrations import images
from visrag_integrations.errors import MissingExtraError
from visrag_integrations.readers.content import PageContent, RenderSettings
from visrag_integrations.readers.tiles import tiles_of
from visrag_integrations.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.readers.sources import Source

_HEAD = 64  # bytes that name a format
_ORIENTATION = 0x0112  # EXIF: 1 is upright, 2 to 8 are turned or mirrored
# A page of A4 is 1.4 times as high as it is wide. Three such pages under each other are a roll, not a page.
_TALL = 4.0
_TILE = 1.414


def tall_tiles(width: int, height: int, max_pixels: int) -> list[tuple[int, int]]:
    """Top and bottom of the tiles of a long receipt or screenshot; none for a picture that can be read as one page.

    >>> tall_tiles(1000, 3000, 10_000), tall_tiles(100, 800, 100_000)
    ([], [])
    >>> tall_tiles(1000, 5000, 1_800_000)
    [(0, 1414), (1301, 2715), (2602, 4016), (3903, 5000)]
    """
    if height < _TALL * width or width * height <= max_pixels:  # within the budget no pixel would be lost
        return []
    return tiles_of(height, int(_TILE * width))


class ImageDetail:
    """All pixels of a picture, given in parts; see `ocr.Detail`. Only the part that is asked for becomes RGB."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.width, self.height = image.size

    def part(self, box: Box, width: int, height: int) -> Image:
        from PIL import Image

        left, top, right, bottom = box
        edges = (left * self.width, top * self.height, right * self.width, bottom * self.height)
        part = self._image.crop((int(edges[0]), int(edges[1]), math.ceil(edges[2]), math.ceil(edges[3])))
        if part.mode == "1":
            part = part.convert("L")
        return images.to_rgb(part).resize((width, height), Image.Resampling.LANCZOS)


class ImageDocument:
    """An open picture file; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings) -> None:
        self._settings = settings
        self._source = source
        _prepare_for(source)
        self._image = images.open_encoded(source.path or source.data, max_pixels=settings.max_image_pixels)
        self.metadata: dict[str, Any] = {}
        self.total_pages: int = 1
        self._tiles: list[tuple[int, int]] = []
        if self._image.format == "TIFF":  # a stack of scans; frames of other formats are an animation
            self.total_pages = getattr(self._image, "n_frames", 1)
        else:
            frames = getattr(self._image, "n_frames", 1)
            if frames > 1:
                self.metadata["warnings"] = (f"is an animation of {frames} pictures; only the first is read.",)
        if self.total_pages == 1:
            self._tiles = tall_tiles(*self._upright_size(), settings.max_pixels)
            self.total_pages = max(1, len(self._tiles))

    def page(self, number: int) -> PageContent:
        from PIL import ImageOps

        if self.total_pages > 1 and not self._tiles:
            with images.without_size_warnings():  # frames have sizes of their own
                self._image.seek(number - 1)
        width, height = self._image.size  # each frame of a TIFF has its own
        if width * height > self._settings.max_image_pixels:
            raise ValueError(
                f"{width} x {height} pixels are more than max_image_pixels={self._settings.max_image_pixels}"
            )
        with images.without_size_warnings():  # a TIFF's pixels are counted once more when they are decoded
            self._image.load()
        if self._is_good_as_it_is():
            return PageContent(self._source.read_bytes(), detail=ImageDetail(self._image))
        upright: Image = self._image
        if upright.getexif().get(_ORIENTATION, 1) != 1:  # else Pillow would copy it, which a large one has no room for
            upright = ImageOps.exif_transpose(self._image)
        if self._tiles:
            top, bottom = self._tiles[number - 1]
            upright = upright.crop((0, top, upright.width, bottom))
        detail = ImageDetail(upright)
        if upright.mode == "1":  # grey takes a byte a pixel; RGB would take three for a large drawing
            upright = upright.convert("L")
        if upright.mode in {"L", "RGB"} and "transparency" not in upright.info:
            upright = images.fit(upright, self._settings.max_pixels)
        picture = images.fit(images.to_rgb(upright), self._settings.max_pixels)
        if picture is self._image:  # it outlives this document, which is closed
            picture = picture.copy()
        return PageContent(picture, detail=detail)

    def _upright_size(self) -> tuple[int, int]:
        width, height = self._image.size
        try:
            orientation = self._image.getexif().get(_ORIENTATION, 1)
        except images.DECODE_ERRORS:  # a damaged file is told of with its page
            orientation = 1
        if orientation in (5, 6, 7, 8):  # turned by a quarter
            return height, width
        return width, height

    def _is_good_as_it_is(self) -> bool:
        """A JPEG that already is upright, grey or RGB, and within the budget keeps its bytes."""
        if self._tiles:
            return False
        image = self._image
        within = image.width * image.height <= self._settings.max_pixels
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return image.format == "JPEG" and image.mode in {"RGB", "L"} and within and upright

    def close(self) -> None:
        self._image.close()


def _prepare_for(source: Source) -> None:
    """Pillow learns formats that another package decodes, where a file is of one.

    Raises:
        MissingExtraError: That package is not installed.
    """
    head = source.data[:_HEAD]
    if source.path is not None:
        with source.path.open("rb") as file:
            head = file.read(_HEAD)
    if images.sniff_format(head) != "HEIF":
        return
    try:
        import pillow_heif
    except ImportError as err:
        raise MissingExtraError("pillow-heif, which reads HEIC pictures,", "heif") from err
    pillow_heif.register_heif_opener()
