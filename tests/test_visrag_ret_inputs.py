"""What the network is fed, against the expected token ids, slices and pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from visrag_ret_golden import (
    CHECKPOINT,
    EXPECTED,
    FOLDER,
    IMAGES,
    ITEMS,
    ROUNDED,
    TEXTS,
    hashes,
    pillow_slices,
    rows_of,
)

from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_inputs import Preparer, exact_pixels, fast_pixels, to_rgb
from visrag_integrations.embedders.slicing import Slicing, plan_slices
from visrag_integrations.errors import CheckpointError, PictureError


@pytest.fixture(scope="module")
def tokenizer() -> LlamaTokenizer:
    return LlamaTokenizer(CHECKPOINT)


def preparer(tokenizer: LlamaTokenizer, max_tokens: int = 2048) -> Preparer:
    return Preparer(tokenizer, Slicing(), 64, max_tokens, exact_pixels)


def test_every_expected_slicing() -> None:
    for table in rows_of("slicing.json"):
        slicing = Slicing(table["max_slice_nums"], table["scale_resolution"], table["patch_size"])
        for width, height, overview, grid, slice_size in table["rows"]:
            plan = plan_slices(width, height, slicing)
            found = plan.overview, plan.grid, plan.slice_size
            assert found == (tuple(overview), grid and tuple(grid), slice_size and tuple(slice_size)), (width, height)


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 12))
def test_slices_are_whole_patches_and_few(width: int, height: int, most: int) -> None:
    plan = plan_slices(width, height, Slicing(max_slices=most))
    assert all(side % 14 == 0 and side for side in (*plan.overview, *(plan.slice_size or ())))
    assert 1 <= plan.pictures <= most + 1
    if plan.grid and plan.refined:
        assert plan.refined == tuple(n * side for n, side in zip(plan.grid, plan.slice_size or (), strict=True))


def test_every_expected_tokenization(tokenizer: LlamaTokenizer) -> None:
    for text, ids in rows_of("tokenization.json")["rows"]:
        assert [tokenizer.bos, *tokenizer.encode(text)] == ids, text


@given(st.text(st.sampled_from("a \n<>/é第imageslcunk"), max_size=40))
def test_tags_split_a_text_into_stretches_that_do_not_know_of_each_other(text: str) -> None:
    tokenizer = LlamaTokenizer(CHECKPOINT)
    apart = [*tokenizer.encode(text), tokenizer.token_id("<slice>"), *tokenizer.encode(text)]
    assert tokenizer.encode(f"{text}<slice>{text}") == apart


def test_lone_surrogates_are_encoded_as_something(tokenizer: LlamaTokenizer) -> None:
    assert tokenizer.encode("a\ud800b") == tokenizer.encode("a?b")


@pytest.mark.parametrize("name", TEXTS)
def test_text_ids(tokenizer: LlamaTokenizer, name: str) -> None:
    item = preparer(tokenizer).text_item(ITEMS[name]["text"])
    assert item.ids == EXPECTED[f"{name}.input_ids"].tolist()
    assert not item.spans


@pytest.mark.parametrize("name", [*IMAGES, "caption_icon_small"])
def test_page_ids_places_and_pixels(tokenizer: LlamaTokenizer, name: str) -> None:
    expected = ITEMS[name]
    with Image.open(FOLDER / expected["file"]) as image:
        item = preparer(tokenizer).picture_item(image, expected.get("text", ""))
    assert item.ids == EXPECTED[f"{name}.input_ids"].tolist()
    assert item.spans == [tuple(span) for span in expected["image_bound"]]
    if "slice_rgb_sha256" in expected:
        slices = [item.pixels[0]]
        for line in np.split(item.pixels[1], item.grid[1]) if len(item.pixels) > 1 else []:
            slices += np.split(line, item.grid[0], axis=1)
        assert [part.shape[1::-1] for part in slices] == [tuple(size) for size in expected["slice_sizes_wh"]]
        assert all(map(np.array_equal, slices, pillow_slices(name)))
        if name not in ROUNDED:
            assert hashes(slices) == expected["slice_rgb_sha256"]
        means = [(part / 127.5 - 1).mean(axis=(0, 1)) for part in slices]
        np.testing.assert_allclose(means, expected["slice_pixel_mean"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("limit", [1, 2, 3, 40, 66, 67, 69, 100, 135])
def test_truncation_cuts_ids_and_places_alike(tokenizer: LlamaTokenizer, limit: int) -> None:
    with Image.open(FOLDER / ITEMS["slide_16x9"]["file"]) as image:
        whole, cut = (preparer(tokenizer, most).picture_item(image) for most in (2048, limit))
    assert cut.ids == whole.ids[:limit]
    assert cut.spans == [(start, min(end, limit)) for start, end in whole.spans if start < limit]


@pytest.mark.parametrize("text", ["<image>", "</image>", "<image><unk></image>", "</slice><slice>", "<unk>" * 70])
def test_tags_of_a_text_are_no_places(tokenizer: LlamaTokenizer, text: str) -> None:
    prepare = preparer(tokenizer)
    with Image.open(FOLDER / ITEMS["icon_small"]["file"]) as image:
        item = prepare.picture_item(image, text)
    assert item.spans == [(2, 66)]
    assert item.ids[67:] == tokenizer.encode("\n" + text)


def test_fast_pixels_are_nearly_the_exact_ones() -> None:
    for name in IMAGES:
        with Image.open(FOLDER / ITEMS[name]["file"]) as opened:
            image = to_rgb(opened)
        plan = plan_slices(image.width, image.height)
        for exact, fast in zip(exact_pixels(image, plan), fast_pixels(image, plan), strict=True):
            difference = np.abs(exact.astype(int) - fast)
            assert difference.mean() < 0.1
            assert (difference > 1).mean() < 0.02


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    assert to_rgb(Image.new(mode, (1, 3))).mode == "RGB"


def test_partly_transparent_palette_makes_no_remark() -> None:
    image = Image.new("P", (4, 4))
    image.info["transparency"] = bytes([0, 128, 255])
    assert to_rgb(image).mode == "RGB"


def test_pictures_that_cannot_be() -> None:
    with pytest.raises(PictureError, match="0 x 5"):
        to_rgb(Image.new("RGB", (0, 5)))
    with pytest.raises(PictureError, match="La"):
        to_rgb(Image.new("La", (5, 5)))


def test_tokenizer_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        LlamaTokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"not a model at all")
    with pytest.raises(CheckpointError, match="sentencepiece"):
        LlamaTokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes((CHECKPOINT / "tokenizer.model").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="JSON"):
        LlamaTokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"added_tokens_decoder": {"3": 7}}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="not as they should be"):
        LlamaTokenizer(tmp_path)


def test_tokenizer_needs_only_its_model_where_the_json_files_say_nothing_else(
    tmp_path: Path, tokenizer: LlamaTokenizer
) -> None:
    (tmp_path / "tokenizer.model").write_bytes((CHECKPOINT / "tokenizer.model").read_bytes())
    specials = json.loads((CHECKPOINT / "special_tokens_map.json").read_text(encoding="utf-8"))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(specials), encoding="utf-8")
    alone = LlamaTokenizer(tmp_path)
    for text, ids in rows_of("tokenization.json")["rows"]:
        assert [alone.bos, *alone.encode(text)] == ids, text
