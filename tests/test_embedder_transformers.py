"""The embedders on transformers' networks: their values are those of transformers called by hand."""

from __future__ import annotations

import asyncio
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
from safetensors.torch import load_file, save_file
from tiny_retrievers import tiny, tiny_embedder

from visrag_integrations import Page, Query, load_embedder
from visrag_integrations.errors import CheckpointError, EmbedderError, PictureError, UnknownNameError

SIZES = [(60, 100), (200, 90), (40, 40), (17, 300)]
TEXTS = ["how many?", "Grüße, 世界 🙂", "a much longer question about the table on the second page", ""]
LATE = ["colqwen2", "colpali", "colmodernvbert"]
SYSTEMS = ["bge-vl-clip", "bge-vl-mllm", *LATE]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def page(width: int, height: int) -> Page:
    return Page.from_image(picture(width, height), doc_id=f"{width}x{height}")


made = tiny_embedder


@cache
def by_hand(network: str, processor: str, system: str) -> tuple[Any, Any]:
    folder = str(tiny(system))
    model = getattr(transformers, network).from_pretrained(folder, dtype=torch.float32).eval()
    return model, getattr(transformers, processor).from_pretrained(folder, backend="pil")


def assert_close(found: np.ndarray, expected: torch.Tensor) -> None:
    assert found.dtype == np.float32
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)


def unit(features: torch.Tensor) -> torch.Tensor:
    return features / features.norm(dim=-1, keepdim=True)


# -- CLIP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip() -> tuple[Any, Any]:
    return by_hand("CLIPModel", "CLIPProcessor", "bge-vl-clip")


def test_clip_pictures_and_texts_are_clips_features(clip: tuple[Any, Any]) -> None:
    model, processor = clip
    embedder = made("bge-vl-clip")
    with torch.inference_mode():
        seen = model.get_image_features(**processor(images=[picture(*s) for s in SIZES], return_tensors="pt"))
        read = model.get_text_features(**processor(text=TEXTS, return_tensors="pt", padding=True))
    for found, expected in zip(embedder.embed_pages([page(*s) for s in SIZES]), seen.pooler_output, strict=True):
        assert_close(found, unit(expected))
    for found, expected in zip(embedder.embed_queries(TEXTS), read.pooler_output, strict=True):
        assert_close(found, unit(expected))


def test_clip_adds_picture_and_text_before_they_get_unit_length(clip: tuple[Any, Any]) -> None:
    model, processor = clip
    with torch.inference_mode():
        inputs = processor(text=["in red"], images=[picture(60, 100)], return_tensors="pt")
        seen = model.get_image_features(inputs["pixel_values"]).pooler_output[0]
        read = model.get_text_features(inputs["input_ids"]).pooler_output[0]
    queries = [Query("in red", image=picture(60, 100)), "text", Query(image=picture(60, 100))]
    both, _, alone = made("bge-vl-clip").embed_queries(queries)
    assert_close(both, unit(seen + read))
    assert_close(alone, unit(seen))


def test_clip_cuts_long_texts_at_its_77_tokens(clip: tuple[Any, Any]) -> None:
    model, processor = clip
    text = "word " * 100
    with torch.inference_mode():
        ids = processor.tokenizer(text, truncation=True, max_length=77, return_tensors="pt")
        expected = model.get_text_features(**ids).pooler_output[0]
    (found,) = made("bge-vl-clip").embed_queries([text])
    assert_close(found, unit(expected))


# -- LLaVA-NeXT -------------------------------------------------------------------------------------------------------

PROMPTS = [
    (None, "how many?", "[INST] \n <instruct> Find it: <query>  how many? \n [/INST]"),
    ((60, 100), "", "[INST] \n <instruct> Find it: <query>  <image> [/INST]"),
    ((200, 90), "in red", "[INST] \n <instruct> Find it: <query>  in red \n <image> [/INST]"),
    (None, "Grüße, 世界", "[INST] \n <instruct> Find it: <query>  Grüße, 世界 \n [/INST]"),
]


def last_state(prompt: str, size: tuple[int, int] | None) -> torch.Tensor:
    """What transformers gives for a prompt, left-padded as the published code does it."""
    model, processor = by_hand("LlavaNextForConditionalGeneration", "LlavaNextProcessor", "bge-vl-mllm")
    shown = None if size is None else [picture(*size).resize((512, 512))]
    inputs = processor(images=shown, text=[prompt], return_tensors="pt", padding="max_length", max_length=96)
    with torch.inference_mode():
        return unit(model.model(**inputs).last_hidden_state[0, -1])


def test_bge_vl_mllm_is_the_last_state_of_its_prompt() -> None:
    with load_embedder(tiny("bge-vl-mllm"), device="cpu", instruction="Find it:") as embedder:
        queries = [Query(text, image=None if size is None else picture(*size)) for size, text, _ in PROMPTS]
        for vector, (size, _, prompt) in zip(embedder.embed_queries(queries), PROMPTS, strict=True):
            assert_close(vector, last_state(prompt, size))
        for vector, size in zip(embedder.embed_pages([page(*size) for size in SIZES]), SIZES, strict=True):
            assert_close(vector, last_state("[INST]  <image> [/INST]", size))
        assert_close(embedder.embed_texts(["a page"])[0], last_state("[INST]  a page \n [/INST]", None))


def test_bge_vl_mllm_cuts_the_text_and_keeps_what_follows() -> None:
    with load_embedder(tiny("bge-vl-mllm"), device="cpu", max_tokens=60, instruction="") as embedder:
        for image in (None, picture(60, 100)):
            (found,) = embedder._prepare_query("x" * 500, image)
            (short,) = embedder._prepare_query("x", image)
            assert sum(number != 4 for number in found.ids) == 60  # 4 is <image>
            after = short.ids[short.ids.index(embedder._processor.tokenizer.convert_tokens_to_ids("x")) + 1 :]
            assert found.ids[-len(after) :] == after


# -- late interaction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "network", "processor"),
    [
        ("colqwen2", "ColQwen2ForRetrieval", "ColQwen2Processor"),
        ("colpali", "ColPaliForRetrieval", "ColPaliProcessor"),
        ("colmodernvbert", "ColModernVBertForRetrieval", "ColModernVBertProcessor"),
    ],
)
def test_late_interaction_is_transformers_without_the_padding(system: str, network: str, processor: str) -> None:
    model, prepare = by_hand(network, processor, system)
    embedder = load_embedder(tiny(system), positions="flat") if system == "colqwen2" else made(system)
    pages = prepare.process_images(images=[picture(*size) for size in SIZES])
    queries = prepare.process_queries(text=TEXTS)
    with torch.inference_mode():
        seen, read = model(**pages).embeddings, model(**queries).embeddings
    found = [*embedder.embed_pages([page(*size) for size in SIZES]), *embedder.embed_queries(TEXTS)]
    expected = [*zip(seen, pages["attention_mask"], strict=True), *zip(read, queries["attention_mask"], strict=True)]
    for vectors, (hand, mask) in zip(found, expected, strict=True):
        assert_close(vectors, hand[mask.bool()])


@pytest.mark.parametrize("size", SIZES)
def test_colqwen2_tells_patches_their_row_and_column(size: tuple[int, int]) -> None:
    model, processor = by_hand("ColQwen2ForRetrieval", "ColQwen2Processor", "colqwen2")
    inputs = processor.process_images(images=[picture(*size)])
    kinds = (inputs["input_ids"] == processor.image_token_id).int()
    positions, _ = model.vlm.get_rope_index(
        inputs["input_ids"], mm_token_type_ids=kinds, image_grid_thw=inputs["image_grid_thw"]
    )
    with torch.inference_mode():
        expected = model(**inputs, position_ids=positions).embeddings[0]
        flat = model(**inputs).embeddings[0]
    (found,) = made("colqwen2").embed_pages([page(*size)])
    assert_close(found, expected)
    assert kinds.sum() == 1 or np.abs(found - flat.numpy()).max() > 1e-4
    with pytest.raises(UnknownNameError, match=r"positions 'round'.*flat, grid"):
        load_embedder(tiny("colqwen2"), positions="round")


@pytest.mark.parametrize("system", LATE)
def test_a_picture_with_a_text_has_the_vectors_of_both(system: str) -> None:
    both, text, image = made(system).embed_queries(
        [Query("what?", image=picture(60, 100)), "what?", Query(image=picture(60, 100))]
    )
    np.testing.assert_allclose(both, np.concatenate([text, image]), atol=1e-6)
    np.testing.assert_allclose(image, made(system).embed_pages([page(60, 100)])[0], atol=1e-6)


def test_a_patch_grid_points_at_the_patches() -> None:
    embedder = made("colqwen2")
    grid = embedder.patch_grid(page(200, 90))
    assert (grid.rows, grid.columns) == (3, 7)  # 90 x 200 pixels in patches of 28
    changed = picture(200, 90)
    changed.paste((255, 0, 0), (170, 0, 200, 28))  # the top right corner
    before = embedder._picture(picture(200, 90)).tensors["pixel_values"]
    after = embedder._picture(changed).tensors["pixel_values"]
    moved = {int(place) // 4 for place in torch.nonzero((before != after).any(dim=1))}  # 4 pixel patches a vector
    assert {int(grid.indices[0, 6]) - int(grid.indices[0, 0])} <= moved
    assert made("colpali").patch_grid(page(30, 90)).indices.shape == (4, 4)


def test_a_patch_grid_of_tiles_joins_them_and_leaves_the_overview_out() -> None:
    embedder = made("colmodernvbert")
    wide = embedder.patch_grid(page(200, 90)).indices  # 112 x 50 pixels: two tiles side by side, 2 x 2 patches each
    first, second = wide[:, :2], wide[:, 2:]
    assert wide.shape == (2, 4)
    assert first.ravel().tolist() == list(range(first[0, 0], first[0, 0] + 4))
    assert second.min() > first.max()
    tall = embedder.patch_grid(page(40, 90)).indices
    assert tall.shape == (4, 2)
    assert embedder.patch_grid(page(90, 90)).indices.shape == (4, 4)


# -- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_batches_of_every_make_up_give_the_same(system: str) -> None:
    pages = [page(*size) for size in SIZES]
    alone = [made(system).embed_pages([each])[0] for each in pages]
    for settings in ({"batch_size": 1}, {"batch_size": 3}, {"token_budget": 50}):
        with load_embedder(tiny(system), device="cpu", **settings) as embedder:
            for one, other in zip(alone, embedder.embed_pages(pages), strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_nothing_in_a_text_is_taken_for_a_mark_of_the_model(system: str) -> None:
    marks = made(system)._special_tokens
    assert marks
    odd = [f"before {mark} after" for mark in marks[:20]] + ["\ud800 lone", "nul \x00", "<image>" * 3]
    for vectors in made(system).embed_queries(odd):
        assert np.isfinite(vectors).all()
    mixed = Query(" ".join(marks[-10:]), image=picture(60, 100))
    assert np.isfinite(made(system).embed_queries([mixed])[0]).all()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("mode", ["L", "1", "RGBA", "P", "CMYK", "I;16"])
def test_pictures_of_any_mode(system: str, mode: str) -> None:
    image = Image.new(mode, (40, 30))
    (vectors,) = made(system).embed_pages([Page.from_image(image, doc_id="d")])
    (expected,) = made(system).embed_pages([Page.from_image(image.convert("RGB"), doc_id="d")])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("system", SYSTEMS)
def test_pictures_of_odd_shapes_work_or_are_refused_by_name(system: str) -> None:
    for size in [(1, 1), (2, 900), (900, 3)]:
        try:
            (vectors,) = made(system).embed_pages([Page.from_image(Image.new("RGB", size), doc_id="d")])
        except PictureError as err:
            assert f"{size[0]} x {size[1]}" in str(err)  # noqa: PT017
        else:
            assert np.isfinite(vectors).all()
    with pytest.raises(PictureError, match="has no picture"):
        made(system).embed_pages([Page(doc_id="d", number=1)])


def test_async_gives_the_same_and_closing_closes() -> None:
    embedder = load_embedder(tiny("bge-vl-clip"), device="cpu")

    async def both() -> tuple[Any, Any]:
        return await asyncio.gather(embedder.aembed_pages([page(40, 40)]), embedder.aembed_queries(["a"]))

    (pages, queries) = asyncio.run(both())
    np.testing.assert_allclose(pages[0], embedder.embed_pages([page(40, 40)])[0], atol=1e-6)
    np.testing.assert_allclose(queries[0], embedder.embed_queries(["a"])[0], atol=1e-6)
    assert embedder.to("cpu") is embedder
    embedder.close()
    for call in (embedder.embed_pages, embedder.embed_queries):
        with pytest.raises(EmbedderError, match="closed"):
            call([])


def test_half_precision_is_near_and_comes_out_as_float32() -> None:
    for system in SYSTEMS:
        with load_embedder(tiny(system), device="cpu", dtype="bfloat16") as embedder:
            (half,) = embedder.embed_pages([page(60, 100)])
            (whole,) = made(system).embed_pages([page(60, 100)])
            assert half.dtype == np.float32
            assert (half * whole).sum(axis=-1).min() > 0.98  # cosines
            np.testing.assert_allclose(np.linalg.norm(half, axis=-1), 1, atol=1e-6)


def test_a_batch_that_does_not_fit_is_halved(caplog: pytest.LogCaptureFixture) -> None:
    with load_embedder(tiny("colqwen2"), device="cpu") as embedder:
        forward = embedder._runner._forward

        def scarce(model: Any, batch: list[Any]) -> Any:
            if len(batch) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(model, batch)

        embedder._runner._forward = scarce
        found = embedder.embed_pages([page(40, 40)] * 5)
        assert "does not hold a batch of" in caplog.text
        np.testing.assert_allclose(found[4], made("colqwen2").embed_pages([page(40, 40)])[0], atol=1e-5)


# -- wrong checkpoints ------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("bge-vl-clip"), tmp_path / "copy"))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    weights = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        weights.pop(key, None)
        if tensor is not None:
            weights[key] = tensor
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_must_fit_exactly(copy: Path) -> None:
    change_weights(copy, text_projection__weight=None)
    with pytest.raises(CheckpointError, match=r"missing keys: text_projection\.weight"):
        load_embedder(copy)
    change_weights(copy, text_projection__weight=torch.zeros(24, 32), extra__weight=torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"unexpected keys: extra\.weight"):
        load_embedder(copy)
    change_weights(copy, text_projection__weight=torch.zeros(3, 32), extra__weight=None)
    with pytest.raises(CheckpointError, match=r"text_projection\.weight|size mismatch|mismatch"):
        load_embedder(copy)


def test_another_architecture_is_refused_by_name(copy: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'CLIPModel'.*reads ColQwen2ForRetrieval"):
        load_embedder(copy, system="colqwen2")
    (copy / "config.json").unlink()
    (copy / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(CheckpointError, match=r"adapter.*-hf"):
        load_embedder(copy)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_embedder(copy, system="colqwen2")


@pytest.mark.parametrize("name", ["tokenizer.json", "processor_config.json", "config.json", "model.safetensors"])
def test_files_that_are_missing_or_broken_are_named(copy: Path, name: str) -> None:
    (copy / name).write_text("{")
    with pytest.raises(CheckpointError, match=r"CLIPProcessor|CLIPModel|config\.json"):
        load_embedder(copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_embedder(copy)


def test_no_pickle_is_read(copy: Path) -> None:
    torch.save({}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*Weights are read from those only"):
        load_embedder(copy)


def test_code_in_a_checkpoint_is_not_run(copy: Path, tmp_path: Path) -> None:
    kinds = ("AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor", "AutoTokenizer")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        config = json.loads((copy / name).read_text())
        config["auto_map"] = dict.fromkeys(kinds, "evil.Evil") | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
        (copy / name).write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    load_embedder(copy, device="cpu").close()
    assert not (tmp_path / "ran").exists()


# -- published layouts ------------------------------------------------------------------------------------------------

LAYOUTS: list[tuple[str, dict[str, str], list[str]]] = [
    ("bge-vl-clip", {}, ["text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"]),
    ("bge-vl-mllm", {"vision_tower.": "vision_tower.vision_model."}, []),
    ("bge-vl-mllm", {"language_model.lm_head.": "language_model.dropped."}, []),
    (
        "colqwen2",
        {"vlm.language_model.": "vlm.model.language_model.", "vlm.visual.": "vlm.model.visual."},
        ["vlm.lm_head.weight"],
    ),
    ("colpali", {"vlm.vision_tower.": "vlm.vision_tower.vision_model."}, ["vlm.language_model.lm_head.weight"]),
]
"""How checkpoints on the hub name their weights: what they rename, and what they have besides."""


@pytest.mark.parametrize(("system", "renamed", "added"), LAYOUTS)
def test_weights_under_the_names_that_were_published(
    system: str, renamed: dict[str, str], added: list[str], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny(system), tmp_path / "published")
    weights = {name: torch.arange(9)[None] for name in added}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        weights[name] = tensor
    save_file({k: v for k, v in weights.items() if "dropped" not in k}, folder / "model.safetensors", {"format": "pt"})
    with load_embedder(folder, device="cpu") as embedder:
        assert_same_pages(embedder, made(system))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_processor_in_the_older_files(system: str, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny(system), tmp_path / "older")
    config = json.loads((folder / "processor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(config.pop("image_processor")))
    kept = {} if system == "bge-vl-mllm" else config  # older LLaVA processors do not know their patches
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "x", **kept}))
    with load_embedder(folder, device="cpu") as embedder:
        assert_same_pages(embedder, made(system))


def assert_same_pages(one: Any, other: Any) -> None:
    pages = [page(*size) for size in SIZES]
    for found, expected in zip(one.embed_pages(pages), other.embed_pages(pages), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_fingerprint_tells_checkpoints_apart(system: str, tmp_path: Path) -> None:
    other = shutil.copytree(tiny(system), tmp_path / "other")
    with load_embedder(other, device="cpu") as same:
        assert same.fingerprint == made(system).fingerprint
    weights = load_file(other / "model.safetensors")
    first = min(weights)
    save_file({**weights, first: weights[first] + 1}, other / "model.safetensors", metadata={"format": "pt"})
    with load_embedder(other, device="cpu") as changed:
        assert changed.fingerprint != made(system).fingerprint
