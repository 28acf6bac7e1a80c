"""Every pixel operation: open, fit to a pixel budget, encode, crop, concatenate."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Union

from visrag_integrations.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

PictureSource = Union["Image", bytes, Path, Callable[[], Union["Image", bytes]]]
"""Where a picture's pixels are: a PIL image, an encoded file's bytes, its path, or a function that gives either."""


def open_picture(source: PictureSource) -> Image:
    """The picture, decoded; a PIL image is given back as a copy. See `Page.open_image`."""
    raise NotImplementedError(f"{io}{PictureError}")
