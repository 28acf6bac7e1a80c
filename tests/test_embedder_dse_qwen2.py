"""DSE on Qwen2-VL: the values of the published way, which is transformers called by hand on the published prompts."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny_retrievers import tiny

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.embedders import CHECKPOINTS
from visrag_integrations.errors import CheckpointError, SettingError, UnknownNameError

pytest.importorskip("torchvision")  # only the published way needs it
PAGE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|><|image_pad|><|vision_end|>{text}<|im_end|>\n{tail}<|endoftext|>"
)
# As each model's card has them: what stands before the last token, and the side of the picture beside a text.
STYLES = {"dse-qwen2": ("<|im_start|>assistant\n", 28), "vdr": ("", 56), "mcdse": ("", 56)}
TEXTS = ["how many?", "Grüße, 世界", "a much longer question about the table on the second page of the report"]
PICTURES = [
    Image.new("RGB", (80, 60), "red"),
    Image.new("RGB", (60, 170), "blue"),
    Image.new("RGB", (300, 140), "gold"),
]
PAGES = [Page.from_image(picture, doc_id="d", number=number) for number, picture in enumerate(PICTURES, 1)]


@cache
def network() -> Any:
    model = transformers.Qwen2VLForConditionalGeneration.from_pretrained(tiny("dse-qwen2"), dtype=torch.float32)
    return model.eval()


@cache
def processor() -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folder = tiny("dse-qwen2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    return transformers.Qwen2VLProcessor(
        Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, transformers.Qwen2VLVideoProcessor()
    )


def by_hand(system: str, texts: list[str], pictures: list[Image.Image], max_pixels: int) -> np.ndarray[Any, Any]:
    """All in one batch, padded on the left, as the cards do it."""
    tail, _ = STYLES[system]
    prompts = [PAGE.format(text=text, tail=tail) for text in texts]
    size = {"shortest_edge": 28 * 28, "longest_edge": max_pixels}
    inputs = processor()(
        text=prompts, images=pictures, padding="longest", return_tensors="pt", images_kwargs={"size": size}
    )
    with torch.inference_mode():
        states = network()(**inputs, output_hidden_states=True).hidden_states[-1]
    return torch.nn.functional.normalize(states[:, -1], dim=-1).numpy()


def pages_by_hand(system: str, pictures: list[Image.Image], max_pixels: int) -> np.ndarray[Any, Any]:
    return by_hand(system, ["What is shown in this image?"] * len(pictures), pictures, max_pixels)


def queries_by_hand(system: str, texts: list[str], max_pixels: int) -> np.ndarray[Any, Any]:
    side = STYLES[system][1]
    black = Image.new("RGB", (side, side))
    return by_hand(system, [f"Query: {text}" for text in texts], [black] * len(texts), max_pixels)


@pytest.mark.parametrize("system", STYLES)
def test_values_are_those_of_the_published_way(system: str) -> None:
    tokens = {"dse-qwen2": 2560, "vdr": 768, "mcdse": 960}[system]
    with load_embedder(tiny("dse-qwen2"), system=system, device="cpu") as embedder:
        assert embedder.max_pixels == tokens * 28 * 28  # type: ignore[attr-defined]
        assert (embedder.kind, embedder.dimension) == ("single", 32)
        expected = pages_by_hand(system, PICTURES, tokens * 28 * 28)
        np.testing.assert_allclose(np.stack(embedder.embed_pages(PAGES)), expected, rtol=0, atol=1e-5)
        expected = queries_by_hand(system, TEXTS, tokens * 28 * 28)
        np.testing.assert_allclose(np.stack(embedder.embed_queries(TEXTS)), expected, rtol=0, atol=1e-5)


def test_a_large_page_is_made_smaller_as_the_processor_does() -> None:
    limit = 12 * 28 * 28
    picture = Image.effect_noise((500, 390), 90).convert("RGB")
    expected = pages_by_hand("vdr", [picture], limit)[0]
    with load_embedder(tiny("dse-qwen2"), system="vdr", device="cpu", max_pixels=limit) as embedder:
        (found,) = embedder.embed_pages([Page.from_image(picture, doc_id="d")])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with load_embedder(tiny("dse-qwen2"), system="vdr", device="cpu") as embedder:
        (whole,) = embedder.embed_pages([Page.from_image(picture, doc_id="d")])
        assert np.abs(whole - expected).max() > 1e-3


def test_the_first_numbers_of_a_vector_are_a_vector_of_unit_length() -> None:
    with load_embedder(tiny("dse-qwen2"), device="cpu", dimension=12) as embedder:
        assert embedder.dimension == 12
        (found,) = embedder.embed_queries(TEXTS[:1])
    first = queries_by_hand("dse-qwen2", TEXTS[:1], 2560 * 28 * 28)[0, :12]
    np.testing.assert_allclose(found, first / np.linalg.norm(first), rtol=0, atol=1e-5)
    with pytest.raises(SettingError, match=r"dimension is 33; the vectors of .* have 32 numbers"):
        load_embedder(tiny("dse-qwen2"), device="cpu", dimension=33)


def test_queries_with_pictures_and_texts_that_are_documents() -> None:
    limit = 2560 * 28 * 28
    with load_embedder(tiny("dse-qwen2"), device="cpu") as embedder:
        (alone, both) = embedder.embed_queries([Query(image=PICTURES[0]), Query("like this", image=PICTURES[1])])
        np.testing.assert_allclose(alone, pages_by_hand("dse-qwen2", PICTURES[:1], limit)[0], rtol=0, atol=1e-5)
        expected = by_hand("dse-qwen2", ["Query: like this"], PICTURES[1:2], limit)[0]
        np.testing.assert_allclose(both, expected, rtol=0, atol=1e-5)
        (document,) = embedder.embed_texts(["a passage"])  # type: ignore[attr-defined]
        expected = by_hand("dse-qwen2", ["Document: a passage"], [Image.new("RGB", (28, 28))], limit)[0]
        np.testing.assert_allclose(document, expected, rtol=0, atol=1e-5)


def test_a_long_text_keeps_the_end_of_its_prompt() -> None:
    with load_embedder(tiny("dse-qwen2"), device="cpu", max_tokens=120) as embedder:
        item = embedder.query_item("x" * 5000)  # type: ignore[attr-defined]
        assert len(item.ids) == 120 + 1  # and the one token of the black picture
        tail = processor().tokenizer("<|im_end|>\n<|im_start|>assistant\n<|endoftext|>", add_special_tokens=False)
        assert item.ids[-len(tail["input_ids"]) :] == tail["input_ids"]
        assert embedder.embed_queries(["x" * 5000])[0].shape == (32,)


def test_special_tokens_in_a_text_are_letters() -> None:
    with load_embedder(tiny("dse-qwen2"), device="cpu") as embedder:
        item = embedder.query_item("<|image_pad|><|im_end|><|endoftext|>")  # type: ignore[attr-defined]
        plain = embedder.query_item("x")  # type: ignore[attr-defined]
        for mark in (5, 2):
            assert item.ids.count(mark) == plain.ids.count(mark)


def test_names_lead_to_their_system() -> None:
    assert CHECKPOINTS["MrLight/dse-qwen2-2b-mrl-v1"] == "dse-qwen2"
    assert CHECKPOINTS["llamaindex/vdr-2b-multi-v1"] == CHECKPOINTS["llamaindex/vdr-2b-v1"] == "vdr"
    assert CHECKPOINTS["marco/mcdse-2b-v1"] == "mcdse"


def test_a_folder_does_not_say_that_it_embeds(tmp_path: Path) -> None:
    """A plain Qwen2-VL writes text: which model of these it is stands nowhere, so it must be said."""
    folder = Path(shutil.copytree(tiny("dse-qwen2"), tmp_path / "plain"))
    config = json.loads((folder / "config.json").read_text())
    del config["visrag_system"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnknownNameError, match=r"Qwen2VLForConditionalGeneration.*system=.*dse-qwen2.*vdr"):
        load_embedder(folder, device="cpu")
    with load_embedder(folder, system="vdr", device="cpu") as embedder:
        assert embedder.name == f"vdr:{folder}"


def test_a_weight_that_is_missing_is_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny("dse-qwen2"), tmp_path / "broken"))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("mlp.up_proj.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing keys: \S*mlp\.up_proj\.weight"):
        load_embedder(folder, device="cpu")
