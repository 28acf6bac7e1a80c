"""Which pixels the agent shows: sizes as Qwen2.5-VL has them, crops by hand arithmetic, pages drawn again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from drawing import draw_pdf
from PIL import Image

from visrag_integrations import Page, PageReader
from visrag_integrations.agent import PictureRules
from visrag_integrations.errors import PictureError, SettingError
from visrag_integrations.types import Box

LEAST, MOST = 256 * 28 * 28, 512 * 28 * 28
STORED = PictureRules(from_source=False)


def page_of(picture: Image.Image, **fields: object) -> Page:
    return Page("d", 1, picture=picture, **fields)  # type: ignore[arg-type]


def gradient(width: int, height: int) -> Image.Image:
    """Red says the column and green the row."""
    across = Image.linear_gradient("L").rotate(90).resize((width, height), Image.Resampling.NEAREST)
    down = Image.linear_gradient("L").resize((width, height), Image.Resampling.NEAREST)
    return Image.merge("RGB", (across, down, Image.new("L", (width, height))))


def test_sizes_are_those_of_the_models_own_preparation() -> None:
    reference = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    chance = random.Random(0)
    sizes = [(chance.randint(1, 4000), chance.randint(1, 4000)) for _ in range(3000)]
    sizes += [(28, 28), (560, 700), (14, 14), (42, 42), (1, 199), (20_000, 101), (448, 448), (633, 633), (634, 634)]
    sizes = [(w, h) for w, h in sizes if max(w, h) <= 200 * min(w, h)]
    assert len(sizes) > 2500
    for least, most in ((LEAST, MOST), (4 * 28 * 28, 1280 * 28 * 28), (300 * 28 * 28, 310 * 28 * 28)):
        grid = PictureRules(min_pixels=least, max_pixels=most).grid
        for width, height in sizes:
            rows, columns = reference.smart_resize(height, width, factor=28, min_pixels=least, max_pixels=most)
            assert grid.size(width, height) == (columns, rows), (width, height, least, most)


def test_a_page_is_shown_whole_within_the_pixel_bounds() -> None:
    # 1000 x 1400 is over 512 cells: sqrt(1000 * 1400 / 401408) = 1.8676; 535.4 and 749.6 pixels are 19 and 26 cells
    assert STORED.whole(page_of(gradient(1000, 1400))).picture.size == (19 * 28, 26 * 28)
    # 100 x 140 is under 256 cells: sqrt(200704 / 14000) = 3.786; 378.6 and 530.1 pixels are 14 and 19 cells
    assert STORED.whole(page_of(gradient(100, 140))).picture.size == (14 * 28, 19 * 28)
    exact = STORED.whole(page_of(gradient(560, 504)))
    assert exact.picture.size == (560, 504)  # 20 x 18 cells stay as they are
    assert exact.picture.tobytes() == gradient(560, 504).tobytes()


def test_a_page_that_no_model_takes_is_refused() -> None:
    with pytest.raises(PictureError, match="5000 x 10 pixels is more than 200 times as long as wide"):
        STORED.whole(page_of(Image.new("RGB", (5000, 10))))
    with pytest.raises(PictureError, match="has no picture"):
        STORED.whole(Page("d", 1))


@pytest.mark.parametrize(
    ("shown", "size", "box", "cut"),
    [
        # The page has 1000 x 2000 pixels and is shown as 500 x 1000: twice as large, 56 more on every side.
        ((0.0, 0.0, 1.0, 1.0), (500, 1000), (100, 200, 300, 400), (200 - 56, 400 - 56, 600 + 56, 800 + 56)),
        # At the corner the padding ends with the page.
        ((0.0, 0.0, 1.0, 1.0), (500, 1000), (0, 0, 100, 100), (0, 0, 200 + 56, 200 + 56)),
        ((0.0, 0.0, 1.0, 1.0), (500, 1000), (400, 900, 500, 1000), (800 - 56, 1800 - 56, 1000, 2000)),
        # A box beyond the picture means what is inside.
        ((0.0, 0.0, 1.0, 1.0), (500, 1000), (-70, -1e9, 100, 1e9), (0, 0, 200 + 56, 2000)),
        # A crop of a crop: pixels 200 to 700 and 500 to 1500 of the page, shown as 250 x 500, half as large. Box 50 to
        # 100 is page 300 to 400; the padding ends with the crop.
        ((0.2, 0.25, 0.7, 0.75), (250, 500), (50, 100, 100, 200), (300 - 56, 700 - 56, 400 + 56, 900 + 56)),
        ((0.2, 0.25, 0.7, 0.75), (250, 500), (0, 0, 250, 500), (200, 500, 700, 1500)),
        # Sides of different scale: 1000 / 250 = 4 across, 2000 / 1000 = 2 down.
        ((0.0, 0.0, 1.0, 1.0), (250, 1000), (25, 100, 50, 150), (100 - 56, 200 - 56, 200 + 56, 300 + 56)),
    ],
)
def test_crops_are_cut_from_the_full_page(
    shown: Box, size: tuple[int, int], box: tuple[float, float, float, float], cut: tuple[int, int, int, int]
) -> None:
    full = gradient(1000, 2000)
    made = STORED.crop(page_of(full), shown, size, box)
    left, top, right, bottom = cut
    assert made.region == (left / 1000, top / 2000, right / 1000, bottom / 2000)
    expected = STORED.grid.seen(full.crop(cut))  # its size is tested above
    assert made.picture.size == expected.size
    assert made.picture.tobytes() == expected.tobytes()


def test_every_crop_is_inside_its_page_and_not_empty() -> None:
    chance = random.Random(1)
    rules = PictureRules(padding=0, from_source=False)
    page, shown = page_of(gradient(90, 70)), (0.0, 0.0, 1.0, 1.0)
    for _ in range(200):
        x, y = chance.uniform(0, 389), chance.uniform(0, 299)
        box = (x, y, x + chance.uniform(1, 50), y + chance.uniform(1, 50))
        left, top, right, bottom = rules.crop(page, shown, (390, 300), box).region
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


def test_a_crop_is_drawn_again_from_the_document(tmp_path: Path) -> None:
    path = draw_pdf(tmp_path / "a.pdf", ["Small print"])  # 300 x 200 points
    (page,) = PageReader(max_pixels=60_000).read(path)
    assert page.open_image().size == (300, 200)
    sharp = PictureRules(full_pixels=2_160_000)  # 1800 x 1200: six times as large
    made = sharp.crop(page, (0, 0, 1, 1), (600, 400), (100, 100, 200, 150))
    assert made.region == pytest.approx(((300 - 56) / 1800, (300 - 56) / 1200, (600 + 56) / 1800, (450 + 56) / 1200))
    full = next(PageReader(max_pixels=2_160_000).read(path)).open_image()
    assert made.picture.tobytes() == sharp.grid.seen(full.crop((244, 244, 656, 506))).tobytes()


@pytest.mark.parametrize("source", ["", "missing.pdf", "s3://bucket/a.pdf", "other.pdf", "\0", "/dev/zero", "folder"])
def test_without_that_very_document_the_stored_picture_is_cropped(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    draw_pdf(tmp_path / "other.pdf", ["Another document"])
    page = page_of(gradient(300, 200), source=source)
    made = PictureRules().crop(page, (0, 0, 1, 1), (600, 400), (200, 200, 400, 300))
    assert made.region == ((100 - 56) / 300, (100 - 56) / 200, (200 + 56) / 300, 1.0)


def test_a_document_of_another_shape_is_not_used(tmp_path: Path) -> None:
    path = draw_pdf(tmp_path / "a.pdf", ["Text"])
    (page,) = PageReader(max_pixels=60_000).read(path)
    turned = Page(page.doc_id, 1, source=page.source, picture=page.open_image().rotate(90, expand=True))
    assert PictureRules().crop(turned, (0, 0, 1, 1), (400, 600), (0, 0, 400, 600)).region == (0, 0, 1, 1)
    assert PictureRules()._full(turned).size == (200, 300)


@pytest.mark.parametrize(
    "settings", [{"min_pixels": 100}, {"max_pixels": 255 * 784}, {"padding": -1}, {"full_pixels": 0}]
)
def test_settings_that_make_no_sense(settings: dict[str, int]) -> None:
    with pytest.raises(SettingError, match="must be"):
        PictureRules(**settings)
