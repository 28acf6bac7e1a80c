"""Pictures: opened upright, converted honestly, fitted, encoded once, cropped."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from visrag_integrations import images
from visrag_integrations.errors import PictureError, SettingError


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that declare a picture of any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_a_picture_held_in_memory_is_copied() -> None:
    mine = Image.new("RGB", (4, 4), "red")
    opened = images.open_picture(mine)
    opened.putpixel((0, 0), (0, 0, 255))
    assert mine.getpixel((0, 0)) == (255, 0, 0)


def test_every_kind_of_source_opens_the_same(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 3), "green")
    data = encoded(picture, "PNG")
    (tmp_path / "p.png").write_bytes(data)
    for source in (picture, data, tmp_path / "p.png", lambda: data, lambda: picture):
        assert images.open_picture(source).convert("RGB").tobytes() == picture.tobytes()


def test_orientation_of_a_camera_is_honoured() -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned clockwise by a quarter
    upright = images.open_picture(encoded(picture, "PNG", exif=exif))
    assert upright.size == (20, 40)
    assert upright.getpixel((10, 5)) == (0, 0, 0)  # left became top


@pytest.mark.parametrize("size", [(30_000, 30_000), (12_000, 12_000)])
def test_a_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError):
        images.open_picture(huge_png(*size), max_pixels=100_000_000)


def test_large_pictures_within_our_limit_are_opened_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns from 89 million pixels on
        images.open_encoded(huge_png(12_000, 12_000)).close()
        before = list(warnings.filters)
        images.open_encoded(huge_png(9_000, 10_000)).close()
        assert warnings.filters == before
        with pytest.raises(PictureError, match="12000 x 12000 pixels; at most 100000000"):
            images.open_encoded(huge_png(12_000, 12_000), max_pixels=100_000_000)


def test_damaged_and_missing_pictures_are_named(tmp_path: Path) -> None:
    data = encoded(Image.effect_noise((64, 64), 50), "PNG")
    for source, words in (
        (data[: len(data) // 2], "damaged or cut off"),
        (b"no picture at all", "not a picture"),
        (tmp_path / "gone.png", r"gone\.png is not a picture"),
    ):
        with pytest.raises(PictureError, match=words):
            images.open_picture(source)


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 257, 128 * 257, 65535]], dtype=np.uint16))
    assert [images.to_rgb(deep).getpixel((x, 0))[0] for x in range(4)] == [0, 1, 128, 255]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_fewer_bits_in_sixteen_come_out_readable(bits: int) -> None:
    white = 2**bits - 1
    deep = Image.fromarray(np.array([[0, white // 2, white]], dtype=np.uint16))
    grey = [images.to_rgb(deep).getpixel((x, 0))[0] for x in range(3)]
    assert grey == pytest.approx([0, 127, 255], abs=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("ink", "ground"), [(255, 0), (240, 0), (0, 255), (120, 255)])
def test_what_is_drawn_on_a_clear_ground_can_be_seen(mode: str, ink: int, ground: int) -> None:
    clear = Image.new("RGBA", (60, 20), (255, 255, 255, 0))
    ImageDraw.Draw(clear).text((5, 5), "Logo", fill=(ink, ink, ink, 255))
    if mode != "RGBA":
        clear = clear.convert("LA")
    grey = np.asarray(images.to_rgb(clear).convert("L")).astype(int)
    assert grey[0, 0] == ground
    assert np.abs(grey - ground).max() >= 100


def test_white_and_dark_on_a_clear_ground_stay_on_white() -> None:
    clear = Image.new("RGBA", (60, 20), (0, 0, 0, 0))
    draw = ImageDraw.Draw(clear)
    draw.rectangle((2, 2, 20, 10), fill=(255, 255, 255, 255))
    draw.rectangle((30, 2, 50, 10), fill=(20, 20, 20, 255))
    assert images.to_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_floats_and_wide_integers_are_scaled() -> None:
    unit = Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert [images.to_rgb(unit).getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]
    bytes_as_ints = Image.new("L", (1, 1), 200).convert("I")
    assert images.to_rgb(bytes_as_ints).getpixel((0, 0)) == (200, 200, 200)
    signed = Image.fromarray(np.array([[-10.0, 10.0]], dtype=np.float32))
    assert images.to_rgb(signed).getpixel((0, 0)) == (0, 0, 0)


def test_transparency_is_white() -> None:
    clear = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    clear.putpixel((1, 0), (0, 0, 255, 255))
    palette = clear.convert("P")
    palette.info["transparency"] = palette.getpixel((0, 0))
    for picture in (clear, Image.open(io.BytesIO(encoded(palette, "PNG")))):
        assert images.to_rgb(picture).getpixel((0, 0)) == (255, 255, 255)
        assert images.to_rgb(picture).getpixel((1, 0)) == (0, 0, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_white_stays_white_in_every_mode(mode: str) -> None:
    whites = {
        "CMYK": (0, 0, 0, 0),
        "YCbCr": (255, 128, 128),
        "HSV": (0, 0, 255),
        "LAB": (255, 128, 128),
        "1": 1,
        "L": 255,
    }
    if mode in whites:
        picture = Image.new(mode, (3, 3), whites[mode])
    else:
        picture = Image.new("RGBA" if "A" in mode.upper() else "RGB", (3, 3), "white")
        steps = {"La": ("LA", "La"), "RGBa": ("RGBa",), "PA": ("PA",)}.get(mode, (mode,))
        for step in steps:
            picture = picture.convert(step)
    rgb = images.to_rgb(picture)
    assert rgb.mode == "RGB"
    assert min(rgb.getpixel((1, 1))) >= 254


def test_lab_colours_come_back() -> None:
    there = ImageCms.profileToProfile(
        Image.new("RGB", (2, 2), (200, 60, 30)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert images.to_rgb(there).getpixel((0, 0)) == pytest.approx((200, 60, 30), abs=4)


def test_cmyk_jpeg_keeps_its_colours() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow: red
    red, green, blue = images.to_rgb(images.open_picture(encoded(ink, "JPEG", quality=95))).getpixel((8, 8))
    assert red > 200
    assert max(green, blue) < 80


@pytest.mark.parametrize("size", [(1000, 700), (3, 100_000), (100_000, 3), (7, 7)])
def test_fit_keeps_the_budget_and_never_enlarges(size: tuple[int, int]) -> None:
    fitted = images.fit(Image.new("L", size), 5000)
    assert fitted.width * fitted.height <= 5000
    assert fitted.width <= size[0]
    assert fitted.height <= size[1]
    if size == (7, 7):
        assert fitted.size == size


def test_fit_refuses_no_pixels() -> None:
    with pytest.raises(SettingError, match="max_pixels is 0"):
        images.fit(Image.new("L", (3, 3)), 0)


def test_a_file_of_the_right_format_is_not_encoded_again(tmp_path: Path) -> None:
    data = encoded(Image.effect_noise((32, 32), 80), "JPEG", quality=30)
    (tmp_path / "p.jpg").write_bytes(data)
    assert images.encode(data) is data
    assert images.encode(tmp_path / "p.jpg") == data
    assert images.encode(lambda: data, "JPG") == data
    assert images.sniff_format(images.encode(data, "PNG")) == "PNG"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "P", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_can_be_encoded(mode: str, format: str) -> None:
    again = images.open_picture(images.encode(Image.new(mode, (5, 4)), format))
    assert again.size == (5, 4)


def test_encoding_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="use one of JPEG, PNG, WEBP"):
        images.encode(Image.new("L", (2, 2)), "EXE")
    with pytest.raises(PictureError, match="Try PNG"):
        images.encode(Image.new("L", (70_000, 1)))
    with pytest.raises(PictureError, match="cannot be read"):
        images.encode(tmp_path / "gone.png")


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), float("-inf"), 10**400, "0", None, [0.5]])
@pytest.mark.parametrize("place", range(4))
def test_a_box_with_an_edge_that_is_no_number_is_refused(edge: Any, place: int) -> None:
    box: list[Any] = [0.0, 0.0, 1.0, 1.0]
    box[place] = edge
    with pytest.raises(SettingError, match="no finite number"):
        images.crop(Image.new("RGB", (20, 20)), tuple(box))


@pytest.mark.parametrize("box", [(), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0, 1.0)])
def test_a_box_has_four_edges(box: Any) -> None:
    with pytest.raises(SettingError, match="four edges"):
        images.crop(Image.new("RGB", (20, 20)), box)


def test_crop_takes_the_box_and_never_nothing() -> None:
    picture = Image.new("RGB", (100, 50), "white")
    picture.paste("black", (50, 0, 100, 50))
    assert images.crop(picture, (0.5, 0, 1, 1)).getextrema() == ((0, 0),) * 3
    assert images.crop(picture, (0.9999, 0.9999, 1.0, 1.0)).size == (1, 1)
    assert images.crop(picture, (-1, -1, 2, 2)).size == (100, 50)
    with pytest.raises(SettingError, match="empty"):
        images.crop(picture, (0.5, 0, 0.5, 1))
