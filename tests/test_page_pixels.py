"""Pages by the short way are what transformers' processors make of them, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_retrievers import tiny

from visrag_integrations import Page, load_embedder
from visrag_integrations.embedders.page_pixels import (
    MOST_SHAPES,
    CheckedPages,
    ShortWay,
    idefics3_tiles,
    qwen2_patches,
    siglip_square,
)
from visrag_integrations.errors import PictureError

LATE = ["colqwen2", "colpali", "colmodernvbert"]
SYSTEMS = [*LATE, "dse-qwen2"]
# What the processors make of the prompt around a page; `CheckedPages` keeps the ids, the embedders use no other.
OF_TEXT = {"input_ids", "attention_mask", "token_type_ids", "labels"}
SIZES = [(60, 100), (200, 90), (40, 40), (17, 300), (1, 1), (3, 3), (28, 28), (55, 57), (112, 56), (333, 334)]
# A4 at 200 dpi upright and lying, at the edge of whole tiles, and beyond it.
LARGE_SIZES = [(1654, 2339), (2339, 1654), (512, 512), (513, 512), (2048, 2047)]
# Longest and shortest sides that some processor refuses, or makes one patch high.
NARROW_SIZES = [(2, 900), (900, 3), (5, 4000)]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def own(system: str, **settings: Any) -> Any:
    """An embedder that no other test shares, its picture processor with other settings."""
    embedder = load_embedder(tiny(system), device="cpu")
    for name, value in settings.items():
        setattr(embedder._processor.image_processor, name, value)
    return embedder


def assert_same(short: Mapping[str, Any], whole: Mapping[str, Any], names: set[str]) -> None:
    assert names <= set(short)
    for name in names:
        assert short[name].shape == whole[name].shape
        assert torch.equal(short[name], whole[name].to(short[name].dtype)), name


@pytest.mark.parametrize("system", LATE)
def test_every_size_has_the_processors_numbers(system: str) -> None:
    embedder = own(system)
    for size in [*SIZES, *NARROW_SIZES]:
        try:
            whole = embedder._whole_way(picture(*size))
        except ValueError as refused:
            with pytest.raises(ValueError, match="absolute aspect ratio") as found:
                embedder._short_way(picture(*size))
            assert str(found.value) == str(refused)  # noqa: PT017
            continue
        short = embedder._short_way(picture(*size))
        assert_same(short.tensors, whole, set(whole) - OF_TEXT)


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("colqwen2", {"size": {"shortest_edge": 4 * 28 * 28, "longest_edge": 768 * 28 * 28}}),
        ("colpali", {"size": {"height": 448, "width": 448}, "image_seq_length": 1024}),
        ("colmodernvbert", {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}),
        ("colmodernvbert", {"size": {"longest_edge": 1024}, "max_image_size": {"longest_edge": 512}}),
        ("colmodernvbert", {"size": {"longest_edge": 500}, "max_image_size": {"longest_edge": 512}}),
    ],
)
def test_the_published_sizes_have_the_processors_numbers(system: str, settings: dict[str, Any]) -> None:
    embedder = own(system, **settings)
    for size in LARGE_SIZES:
        whole = embedder._whole_way(picture(*size))
        short = embedder._short_way(picture(*size))
        assert_same(short.tensors, whole, set(whole) - OF_TEXT)


def test_dse_and_its_limits_have_the_processors_numbers() -> None:
    embedder = own("dse-qwen2")
    for size in [*SIZES, *LARGE_SIZES]:
        short = embedder._short_way(picture(*size))
        assert_same(short.tensors, embedder._whole_way(picture(*size)), {"pixel_values", "image_grid_thw"})


@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (0.1, 0.7, 1.0)])
@pytest.mark.parametrize("factor", [1 / 255, 1 / 127.5, 1.0])
def test_means_and_factors_are_the_processors(mean: tuple[float, ...], factor: float) -> None:
    for system in LATE:
        embedder = own(system, image_mean=list(mean), rescale_factor=factor, image_std=[0.3, 1.0, 0.017])
        whole, short = embedder._whole_way(picture(90, 70)), embedder._short_way(picture(90, 70))
        assert_same(short.tensors, whole, {"pixel_values"})


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_page_is_the_same_the_first_time_and_later(system: str) -> None:
    """The first page of a shape goes the processor's way, later ones the short way."""
    embedder = own(system)
    for size in SIZES:
        first, second = embedder.page_item(picture(*size)), embedder.page_item(picture(*size))
        assert first.ids == second.ids
        assert first.cost == second.cost
        assert_same(second.tensors, first.tensors, set(first.tensors))
    # The black picture beside a query's text is a shape of DSE's too.
    assert 0 < len(embedder._pages._ids) <= len(SIZES) + 1


@pytest.mark.parametrize("system", LATE)
def test_the_short_way_is_taken(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = own(system)
    embedder.page_item(picture(60, 100))

    def refused(**_: Any) -> Any:
        raise AssertionError("the processor was asked for a shape that is known")

    monkeypatch.setattr(embedder._processor, "process_images", refused)
    embedder.page_item(picture(60, 100))


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("colqwen2", {"do_normalize": False}),
        ("colqwen2", {"do_resize": False}),
        ("colpali", {"do_rescale": False}),
        ("colpali", {"size": {"shortest_edge": 56}}),
        ("colmodernvbert", {"do_image_splitting": False}),
        ("colmodernvbert", {"do_pad": False}),
    ],
)
def test_settings_that_are_not_known_go_the_processors_way(system: str, settings: dict[str, Any]) -> None:
    assert own(system, **settings)._short_way(picture(56, 56)) is None


@pytest.mark.parametrize("short", [qwen2_patches, idefics3_tiles, siglip_square])
def test_another_processor_is_not_taken_for_the_known_one(short: Callable[..., Any]) -> None:
    embedder = own("bge-vl-clip")
    given = (embedder._processor.image_processor, picture(40, 40), {"shortest_edge": 1, "longest_edge": 1000})
    assert short(*given[: 3 if short is qwen2_patches else 2]) is None


def test_a_short_way_with_one_other_number_is_never_taken() -> None:
    true = {"pixel_values": torch.zeros(1, 5), "input_ids": torch.tensor([[1, 2]])}
    wrong = torch.zeros(1, 5)
    wrong[0, 4] = 1e-38
    tried = []

    def short(image: Image.Image) -> ShortWay:
        tried.append(image)
        return ShortWay((1,), {"pixel_values": wrong})

    pages = CheckedPages(short, lambda _: true)
    for _ in range(3):
        assert pages.made(picture(1, 1)) is true
    assert len(tried) == 1
    missing = CheckedPages(lambda _: ShortWay((1,), {"other": wrong}), lambda _: true)
    assert [missing.made(picture(1, 1)) for _ in range(2)] == [true, true]


def test_no_more_than_so_many_shapes_are_kept() -> None:
    def made(image: Image.Image) -> dict[str, Any]:
        return {"pixel_values": torch.zeros(1), "input_ids": torch.tensor([[image.width]])}

    pages = CheckedPages(lambda image: ShortWay((image.width,), {"pixel_values": torch.zeros(1)}), made)
    for width in [*range(1, MOST_SHAPES + 20), *range(1, MOST_SHAPES + 20)]:
        assert pages.made(Image.new("RGB", (width, 1)))["input_ids"].tolist() == [[width]]
    assert len(pages._ids) == MOST_SHAPES


@pytest.mark.parametrize("system", SYSTEMS)
def test_many_threads_get_what_one_gets(system: str) -> None:
    sizes = SIZES * 6
    alone = own(system)
    expected = {size: alone._whole_way(picture(*size)) for size in SIZES}
    embedder = own(system)
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda size: embedder.page_item(picture(*size)), sizes))
        queries = list(pool.map(embedder.query_item, [f"question {number}" for number in range(40)]))
    for size, found in zip(sizes, pages, strict=True):
        whole = expected[size]
        # Without the processor's axis of pictures: a page's numbers, in their order.
        assert torch.equal(found.tensors["pixel_values"].flatten(), whole["pixel_values"].flatten())
        if "input_ids" in whole:
            assert found.ids == whole["input_ids"][0].tolist()
    for number, query in enumerate(queries):
        assert query.ids == alone.query_item(f"question {number}").ids


@pytest.mark.parametrize("system", ["colqwen2", "dse-qwen2"])
def test_a_page_that_cannot_be_embedded_is_named_as_before(system: str) -> None:
    for _ in range(2):
        with pytest.raises(PictureError, match=r"A picture of 2 x 900 pixels cannot be embedded by .*aspect ratio"):
            own(system).embed_pages([Page.from_image(Image.new("RGB", (2, 900)), doc_id="d")])


def test_a_callers_picture_stays_as_it_is() -> None:
    image = picture(60, 100)
    before = image.tobytes()
    for system in SYSTEMS:
        embedder = own(system)
        items = [embedder.page_item(image) for _ in range(2)]
        embedder.embed_pages([Page.from_image(image, doc_id="d")])
        image.paste((0, 0, 0), (0, 0, 60, 100))  # what was made of it is no view of it
        assert torch.equal(items[0].tensors["pixel_values"], items[1].tensors["pixel_values"])
        image = picture(60, 100)
        assert image.tobytes() == before
