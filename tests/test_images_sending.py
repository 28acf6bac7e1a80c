"""Pictures on their way out: which files go as they are, without metadata, and what is encoded again."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.generation.openai_messages import encoded_pictures
from visrag_integrations.generation.shown_pages import NO_TEXT, shown_pages
from visrag_integrations.images.file_metadata import without_metadata
from visrag_integrations.images.sending import picture_file
from visrag_integrations.images.urls import data_url
from visrag_integrations.types import Page

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 40, 3), np.uint8))
SECRET = b"48.8583 N by NIKON"


def file(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def exif(**tags: Any) -> Image.Exif:
    made = Image.Exif()
    made[0x010F] = tags.get("maker", SECRET.decode())
    if "orientation" in tags:
        made[0x0112] = tags["orientation"]
    return made


PLAIN = {
    "jpeg": file(NOISE, "JPEG", quality=85),
    "progressive": file(NOISE, "JPEG", progressive=True),
    "restart markers": file(NOISE, "JPEG", restart_marker_blocks=2),
    "grey jpeg": file(NOISE.convert("L"), "JPEG"),
    "png": file(NOISE, "PNG"),
    "grey png": file(NOISE.convert("L"), "PNG"),
    "black and white png": file(NOISE.convert("1"), "PNG"),
    "palette png": file(NOISE.quantize(16), "PNG"),
    "webp": file(NOISE, "WEBP"),
    "lossless webp": file(NOISE, "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_file_that_fits_goes_as_it_is(name: str, tmp_path: Path) -> None:
    data = PLAIN[name]
    assert picture_file(data).data == data
    assert picture_file(lambda: data).data == data
    path = tmp_path / "picture"
    path.write_bytes(data)
    assert picture_file(path).data == data
    assert encoded_pictures([data], None, "PNG") == [data]
    assert encoded_pictures([data], 10_000, "PNG") == [data]


WITH_METADATA = {
    "jpeg exif": file(NOISE, "JPEG", exif=exif()),
    "jpeg comment": file(NOISE, "JPEG", comment=SECRET),
    "jpeg xmp": file(NOISE, "JPEG", xmp=b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"),
    "jpeg upright": file(NOISE, "JPEG", exif=exif(orientation=1)),
    "behind the end": file(NOISE, "JPEG") + SECRET,
    "png exif": file(NOISE, "PNG", exif=exif()),
    "png behind the end": file(NOISE, "PNG") + SECRET,
    "webp exif": file(NOISE, "WEBP", exif=exif()),
    "webp xmp": file(NOISE, "WEBP", xmp=b"<x:xmpmeta>" + SECRET + b"</x:xmpmeta>"),
}
_TEXT = PngImagePlugin.PngInfo()
_TEXT.add_text("Author", SECRET.decode())
_TEXT.add_itxt("Place", SECRET.decode())
WITH_METADATA["png text"] = file(NOISE, "PNG", pnginfo=_TEXT)


@pytest.mark.parametrize("name", WITH_METADATA)
def test_places_and_cameras_stay_here(name: str) -> None:
    data = WITH_METADATA[name]
    if name == "jpeg xmp" and int(PIL.__version__.split(".")[0]) < 11:
        pytest.skip("this Pillow writes no XMP into JPEG files")
    assert SECRET in data
    sent = picture_file(data)
    assert SECRET not in sent.data
    assert not dict(opened(sent.data).getexif())
    # The pixels were not encoded again.
    assert np.array_equal(np.asarray(opened(sent.data)), np.asarray(opened(data)))
    assert opened(sent.data).format == opened(data).format
    assert SECRET not in encoded_pictures([data], None, "PNG")[0]


def test_a_colour_profile_stays() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP"):
        data = file(NOISE, kind, icc_profile=profile)
        assert opened(picture_file(data).data).info["icc_profile"] == profile


CLEAR = NOISE.convert("RGBA")
CLEAR.putalpha(0)


def _animated(format: str) -> bytes:
    first, second = (Image.new("RGB", (40, 60), colour) for colour in ("blue", "red"))
    return file(first, format, save_all=True, append_images=[second])


@pytest.mark.parametrize("side", range(2, 9))
def test_a_turned_picture_is_sent_upright(side: int) -> None:
    from PIL import ImageOps

    data = file(NOISE, "PNG", exif=exif(orientation=side))
    sent = picture_file(data)
    upright = ImageOps.exif_transpose(opened(data))
    assert np.array_equal(np.asarray(opened(sent.data)), np.asarray(upright))
    assert dict(opened(sent.data).getexif()) == {}
    turned_jpeg = file(NOISE, "JPEG", exif=exif(orientation=side))
    assert opened(picture_file(turned_jpeg).data).size == upright.size
    assert SECRET not in picture_file(turned_jpeg).data


OTHERWISE = {
    "transparent png": (file(CLEAR, "PNG"), (255, 255, 255)),
    "transparent palette": (file(Image.new("P", (40, 60)), "PNG", transparency=0), (255, 255, 255)),
    "transparent webp": (file(CLEAR, "WEBP", lossless=True), (255, 255, 255)),
    "cmyk": (file(Image.new("CMYK", (40, 60), (0, 0, 0, 255)), "JPEG", quality=100), (0, 0, 0)),
    "16 bits grey": (file(Image.fromarray(np.full((60, 40), 65535, np.uint16)), "PNG"), (255, 255, 255)),
    "tiff": (file(Image.new("RGB", (40, 60), "white"), "TIFF"), (255, 255, 255)),
    "gif": (file(Image.new("RGB", (40, 60), "white"), "GIF", comment=SECRET), (255, 255, 255)),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_viewers_show_differently_is_encoded(name: str) -> None:
    data, colour = OTHERWISE[name]
    sent = opened(picture_file(data).data)
    assert sent.format in {"JPEG", "PNG"}
    assert sent.mode in {"RGB", "L"}
    assert sent.convert("RGB").getpixel((5, 5)) == colour
    assert SECRET not in picture_file(data).data


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_of_several_frames_the_first_is_sent(format: str) -> None:
    sent = opened(picture_file(_animated(format)).data)
    assert getattr(sent, "n_frames", 1) == 1
    assert opened(_animated(format)).n_frames == 2
    assert sent.convert("RGB").getpixel((5, 5)) == pytest.approx((0, 0, 255), abs=2)


def test_of_a_jpeg_with_further_pictures_the_first_is_sent() -> None:
    data = file(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", NOISE.size, "red")])
    sent = opened(picture_file(data).data)
    assert (sent.format, getattr(sent, "n_frames", 1)) == ("JPEG", 1)
    assert np.array_equal(np.asarray(sent), np.asarray(opened(data)))


def test_limits() -> None:
    for data in (PLAIN["jpeg"], PLAIN["png"]):
        assert picture_file(data, max_pixels=40 * 60, max_bytes=len(data)).data == data
        small = opened(picture_file(data, max_pixels=600).data)
        assert small.width * small.height <= 600
        assert len(picture_file(data, max_bytes=1200).data) <= 1200
    assert opened(picture_file(Image.new("RGB", (9, 9)), max_bytes=1).data).size == (1, 1)
    for limits in ({"max_pixels": 0}, {"max_bytes": -1}):
        with pytest.raises(SettingError, match="1 or more"):
            picture_file(NOISE, **limits)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_file_that_is_cut_off_is_an_error_here_and_not_at_the_server(name: str) -> None:
    for share in (0.2, 0.5, 0.95):
        cut = PLAIN[name][: int(len(PLAIN[name]) * share)]
        assert without_metadata(cut) is None
        with pytest.raises(PictureError):
            picture_file(cut)


def test_a_server_that_wants_small_requests_gets_no_png() -> None:
    (sent,) = encoded_pictures([PLAIN["png"]], None, "JPEG")
    assert opened(sent).format == "JPEG"
    assert encoded_pictures([PLAIN["webp"]], None, "JPEG") == [PLAIN["webp"]]
    (scaled,) = encoded_pictures([file(NOISE.resize((800, 1200)), "JPEG")], 100, "PNG")
    assert opened(scaled).width * opened(scaled).height <= 100 * 28 * 28


def test_data_urls_have_no_metadata_either() -> None:
    assert data_url(WITH_METADATA["jpeg exif"]) == data_url(picture_file(WITH_METADATA["jpeg exif"]).data)
    assert data_url(PLAIN["png"]).startswith("data:image/png;base64,")


def test_shown_pages() -> None:
    pages = [
        Page("d", 1, "The text.", "a.pdf", picture=PLAIN["png"]),
        Page("d", 2, "Only text."),
        Page("d", 3, "  "),
    ]
    first, second, third = shown_pages(pages)
    assert (first.caption, first.shown) == ("[1] a.pdf, page 1:", (PLAIN["png"], "image/png"))
    assert (second.caption, second.shown, third.shown) == ("[2] d, page 2:", "Only text.", NO_TEXT)
    assert [shown.shown for shown in shown_pages(pages, text_only=True)] == ["The text.", "Only text.", NO_TEXT]
    assert [shown.caption for shown in shown_pages(pages, captions=False)] == ["", "", ""]
    assert next(shown_pages(pages, captions=lambda place, page: f"{place}/{page.number}")).caption == "1/1"
    with pytest.raises(PictureError, match=r"a\.pdf, page 4 cannot be shown"):
        list(shown_pages([Page("d", 4, source="a.pdf", picture=b"nothing")]))
