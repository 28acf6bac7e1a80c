"""The network by itself: intermediates, other sizes against another implementation, and strict loading."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from visrag_ret_golden import CHECKPOINT, EXPECTED, FOLDER, ITEMS, MANIFEST, copy_checkpoint

from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_inputs import Preparer, exact_pixels
from visrag_integrations.embedders.slicing import Slicing
from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.config import parse_config
from visrag_integrations.models.minicpm import MiniCPMConfig, MiniCPMDecoder
from visrag_integrations.models.visrag_ret import PictureGroup, VisRAGRetModel, cut_patches, normalise
from visrag_integrations.models.weights import read_json

CPU = torch.device("cpu")


def load(folder: Path = CHECKPOINT, attn_implementation: str = "sdpa") -> VisRAGRetModel:
    config = parse_config(read_json(folder / "config.json"))
    kind = attn_implementation
    return VisRAGRetModel.from_folder(folder, config, device=CPU, dtype=torch.float32, attn_implementation=kind)


def config_with(**changes: Any) -> dict[str, Any]:
    return {**read_json(CHECKPOINT / "config.json"), **changes}


@pytest.mark.parametrize(("name", "attention"), [("slide_16x9", "sdpa"), ("tiny_rgba", "sdpa"), ("tiny_rgba", "eager")])
def test_intermediates(name: str, attention: str) -> None:
    from PIL import Image

    noise = MANIFEST["intermediates"][name]["fp32_noise_max_abs"]
    network = load(attn_implementation=attention)
    prepare = Preparer(LlamaTokenizer(CHECKPOINT), Slicing(), 64, 2048, exact_pixels)
    with Image.open(FOLDER / ITEMS[name]["file"]) as image:
        item = prepare.picture_item(image)
    pictures = [PictureGroup(torch.from_numpy(item.pixels[0].copy())[None])]
    if len(item.pixels) > 1:
        pictures.append(PictureGroup(torch.from_numpy(item.pixels[1].copy())[None], *item.grid))

    def check(found: Tensor, expected: str, of: str) -> None:
        np.testing.assert_allclose(found.numpy(), EXPECTED[f"{name}.{expected}"], rtol=0, atol=100 * noise[of])

    with torch.inference_mode():
        cut = cut_patches(pictures[0], 14)
        grid, patches = cut.grid, normalise(cut, 0, 1, torch.float32)
        corner = patches.view(*grid, 3, 14, 14)[:2, :2].permute(2, 0, 3, 1, 4).reshape(3, 28, 28)
        np.testing.assert_allclose(corner.numpy(), EXPECTED[f"{name}.pixel_values_slice0_crop"], atol=1e-6)
        check(network.vpm(patches, [grid], [(1, len(patches))]), "vpm_slice0", "vpm_slice0")
        vectors = network.look(pictures)
        check(vectors[0], "resampler_slice0", "resampler_all")
        check(vectors[:, :, :8], "resampler_all_dims8", "resampler_all")
        ids = torch.tensor([item.ids])
        targets = torch.cat([torch.arange(*span) for span in item.spans])
        embedded = network.embed_tokens(ids, vectors, (torch.arange(len(targets)), targets))
        rows = torch.from_numpy(EXPECTED[f"{name}.rows"]).long()
        check(embedded[0, rows], "inputs_embeds_rows", "inputs_embeds")
        check(embedded[0, :, :8], "inputs_embeds_dims8", "inputs_embeds")
        hidden = network.llm(embedded)
        check(hidden[0, rows], "last_hidden_rows", "last_hidden_state")
        check(hidden[0, :, :8], "last_hidden_dims8", "last_hidden_state")
        pooled = network.pool(hidden, torch.tensor([len(item.ids)]))[0]
        np.testing.assert_allclose(pooled.numpy(), EXPECTED[f"{name}.pooled"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shared", "bias"), [(4, False), (2, False), (1, True)])
def test_decoder_is_llama_where_its_own_scales_are_one(shared: int, bias: bool) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
    settings = {"rms_norm_eps": 1e-5, "attention_bias": bias, "num_key_value_heads": shared, "vocab_size": 50}
    torch.manual_seed(0)
    llama = transformers.LlamaModel(transformers.LlamaConfig(**sizes, **settings)).eval()
    for weight in llama.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    ours = MiniCPMDecoder(MiniCPMConfig(**sizes, **settings, scale_emb=1.0, scale_depth=math.sqrt(3)))
    ours.load_state_dict(llama.state_dict())
    ids = torch.randint(0, 50, (2, 300))
    with torch.inference_mode():
        torch.testing.assert_close(ours(ours.embed(ids)), llama(ids).last_hidden_state, rtol=1e-4, atol=1e-4)


def test_scales_of_the_decoder() -> None:
    config = MiniCPMConfig(64, 2, 4, 4, 96, 50, scale_emb=5.0, scale_depth=1e-9)
    decoder = MiniCPMDecoder(config)
    for weight in decoder.parameters():
        torch.nn.init.normal_(weight)
    torch.nn.init.ones_(decoder.norm.weight)
    ids = torch.tensor([[3, 4]])
    with torch.inference_mode():
        embedded = decoder.embed(ids)
        torch.testing.assert_close(embedded, 5 * decoder.embed_tokens.weight[[3, 4]][None])
        alone = embedded / (embedded.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(decoder(embedded), alone)  # layers that add nothing leave only the norm


def test_pooling_weighs_the_nth_token_n_times() -> None:
    hidden = torch.tensor([[[1.0], [4.0], [100.0]], [[1.0], [4.0], [10.0]]])
    pooled = VisRAGRetModel.pool(load(), hidden, torch.tensor([2, 3]))
    torch.testing.assert_close(pooled, torch.tensor([[9 / 3], [39 / 6]]))


def test_groups_of_pictures_may_come_in_any_order() -> None:
    network = load()
    generator = torch.Generator().manual_seed(1)
    shapes = [(1, 28, 42, 1, 1), (2, 56, 84, 3, 2), (1, 42, 28, 1, 1), (3, 14, 14, 1, 1)]
    groups = [
        PictureGroup(
            torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8), columns, rows
        )
        for count, height, width, columns, rows in shapes
    ]
    with torch.inference_mode():
        together = network.look(groups)
        apart = torch.cat([network.look([group], limit=1) for group in groups])
        torch.testing.assert_close(network.look(groups, limit=13), apart, rtol=0, atol=5e-6)
    assert together.shape == (1 + 12 + 1 + 3, 64, 256)
    torch.testing.assert_close(together, apart, rtol=0, atol=5e-6)


def test_compiled_parts_take_any_number_of_tokens() -> None:
    network, compiled = load(), load()
    compiled.compile_parts(backend="eager")  # traced as for every backend, only not translated
    pictures = [PictureGroup(torch.arange(3 * 28 * side).view(1, 28, side, 3).to(torch.uint8)) for side in (14, 42, 56)]
    with torch.inference_mode():
        for picture in pictures:
            vectors = network.look([picture])
            torch.testing.assert_close(compiled.look([picture]), vectors, rtol=0, atol=5e-6)
        for length in (1, 7, 30):
            ids, lengths = torch.arange(length)[None], torch.tensor([length])
            torch.testing.assert_close(compiled(ids, lengths), network(ids, lengths), rtol=0, atol=5e-6)


# -- loading ----------------------------------------------------------------------------------------------------------


def shard(folder: Path, parts: int) -> dict[str, Tensor]:
    """Replace the single file by shards and their index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for part in range(parts):
        name = f"model-{part + 1:05}-of-{parts:05}.safetensors"
        chosen = {key: value for number, (key, value) in enumerate(weights.items()) if number % parts == part}
        save_file(chosen, folder / name)
        weight_map |= dict.fromkeys(chosen, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return weights


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "shards")
    shard(folder, 3)
    for ours, theirs in zip(load(folder).parameters(), load().parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no model-00002-of-00003"):
        load(folder)


def test_an_index_may_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "inside", leave_out=("model.safetensors",))
    index = {"weight_map": {"a": f"../{CHECKPOINT.name}/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(CheckpointError, match="in the folder itself"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("vpm.norm.bias"), r"missing: vpm\.norm\.bias"),
        (lambda w: w.update({"vpm.blocks.3.norm1.bias": torch.zeros(72)}), r"unexpected: vpm\.blocks\.3\.norm1\.bias"),
        (
            lambda w: w.update({"llm.model.norm.weight": torch.ones(255)}),
            r"llm\.model\.norm\.weight \(is \[255\].*\[256\]",
        ),
        (
            lambda w: w.update({"resampler.proj": torch.ones(256, 256).char()}),
            r"resampler\.proj is stored as torch\.int8",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: Any, words: str) -> None:
    folder = copy_checkpoint(tmp_path / "changed")
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load(folder)


def test_no_head_is_needed_and_none_is_loaded(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "headless")
    weights = load_file(folder / "model.safetensors")
    del weights["llm.lm_head.weight"]
    save_file(weights, folder / "model.safetensors")
    parameters = dict(load(folder).named_parameters())
    assert not [name for name in parameters if "lm_head" in name]


def test_a_file_that_is_cut_off_or_not_there(tmp_path: Path) -> None:
    folder = copy_checkpoint(tmp_path / "cut")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000_000])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        load(folder)
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"there is pytorch_model\.bin"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": None}, "no 'hidden_size'"),
        ({"hidden_size": "256"}, "hidden_size = '256'"),
        ({"hidden_size": 192}, "multiple of 128"),
        ({"hidden_size": -256}, "above 0"),
        ({"num_attention_heads": 3}, "3 heads"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
        ({"hidden_act": "gelu"}, "'gelu'.*'silu'"),
        ({"rope_scaling": {"type": "dynamic"}}, "rope_scaling"),
        ({"vision_config": None, "vision_encoder": "other_tower"}, "other_tower"),
        ({"vision_config": 3}, "must be an object"),
        ({"vision_config": {"embed_dim": 72, "num_heads": 5}}, "5 heads"),
        ({"vision_config": {"patch_size": 16}}, "must be equal"),
        ({"slice_mode": "yes"}, "true or false"),
    ],
)
def test_configs_that_cannot_be(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        parse_config(config_with(**changes))


def test_released_config_has_no_vision_sizes() -> None:
    tower = parse_config(config_with(vision_config=None)).tower
    assert (tower.embed_dim, tower.blocks, tower.num_heads, tower.intermediate_size) == (1152, 26, 16, 4304)
    config = parse_config(config_with(vision_config=None))
    with pytest.raises(CheckpointError, match=r"missing.*misshaped"):
        VisRAGRetModel.from_folder(CHECKPOINT, config, device=CPU, dtype=torch.float32)


def test_real_sizes_are_the_published_ones() -> None:
    sizes = {"hidden_size": 2304, "num_hidden_layers": 40, "num_attention_heads": 36, "intermediate_size": 5760}
    with torch.device("meta"):
        network = VisRAGRetModel(parse_config({**sizes, "vocab_size": 122753, "drop_vision_last_layer": True}))
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(3.15e9, rel=0.02)
