"""Pages from picture files: one a file, one a frame of a TIFF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visrag_integrations import images
from visrag_integrations.readers.content import PageContent, RenderSettings

if TYPE_CHECKING:
    from PIL.Image import Image

    from visrag_integrations.readers.sources import Source

_ORIENTATION = 0x0112  # EXIF: 1 is upright, 2 to 8 are turned or mirrored


class ImageDocument:
    """An open picture file; see `DocumentContent`."""

    def __init__(self, source: Source, settings: RenderSettings) -> None:
        self._settings = settings
        self._source = source
        self._image = images.open_encoded(source.path or source.data, max_pixels=settings.max_image_pixels)
        self.metadata: dict[str, str] = {}
        self.total_pages: int = 1
        if self._image.format == "TIFF":  # a stack of scans; frames of other formats are an animation
            self.total_pages = getattr(self._image, "n_frames", 1)

    def page(self, number: int) -> PageContent:
        from PIL import ImageOps

        if self.total_pages > 1:
            self._image.seek(number - 1)
        width, height = self._image.size  # each frame of a TIFF has its own
        if width * height > self._settings.max_image_pixels:
            raise ValueError(
                f"{width} x {height} pixels are more than max_image_pixels={self._settings.max_image_pixels}"
            )
        self._image.load()
        if self._is_good_as_it_is():
            return PageContent(self._source.read_bytes())
        upright: Image = ImageOps.exif_transpose(self._image)
        return PageContent(images.fit(images.to_rgb(upright), self._settings.max_pixels))

    def _is_good_as_it_is(self) -> bool:
        """A JPEG that already is upright, grey or RGB, and within the budget keeps its bytes."""
        image = self._image
        within = image.width * image.height <= self._settings.max_pixels
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        return image.format == "JPEG" and image.mode in {"RGB", "L"} and within and upright

    def close(self) -> None:
        self._image.close()
