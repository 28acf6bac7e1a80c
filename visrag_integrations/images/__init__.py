"""Every pixel operation (`pixels`, `composing`), and pictures that come as URLs (`urls`)."""

from visrag_integrations.images.composing import Direction, concatenate, crop, outline
from visrag_integrations.images.contours import contours
from visrag_integrations.images.pixels import (
    DECODE_ERRORS,
    MAX_PIXELS,
    EncodedPixels,
    PictureSource,
    Pixels,
    encode,
    fit,
    fit_size,
    open_encoded,
    open_picture,
    sniff_format,
    to_rgb,
    without_size_warnings,
)

__all__ = [
    "DECODE_ERRORS",
    "MAX_PIXELS",
    "Direction",
    "EncodedPixels",
    "PictureSource",
    "Pixels",
    "concatenate",
    "contours",
    "crop",
    "encode",
    "fit",
    "fit_size",
    "open_encoded",
    "open_picture",
    "outline",
    "sniff_format",
    "to_rgb",
    "without_size_warnings",
]
