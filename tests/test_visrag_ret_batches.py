"""Batches for training: the numbers of the embedder, gradients to every weight, nothing stale after a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from visrag_ret_golden import CHECKPOINT, EXPECTED, FOLDER, ITEMS, tolerances

from visrag_integrations.embedders.llama_tokenizer import LlamaTokenizer
from visrag_integrations.embedders.minicpm_batches import MiniCPMBatch, embed_batch, make_batch
from visrag_integrations.embedders.minicpm_inputs import Item, Preparer, exact_pixels
from visrag_integrations.embedders.slicing import Slicing
from visrag_integrations.models.config import parse_config
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.models.weights import read_json

CPU = torch.device("cpu")
PAGES = ["icon_small", "tiny_rgba", "grey_l"]


def load(attn_implementation: str = "sdpa") -> VisRAGRetModel:
    config = parse_config(read_json(CHECKPOINT / "config.json"))
    return VisRAGRetModel.from_folder(
        CHECKPOINT, config, device=CPU, dtype=torch.float32, attn_implementation=attn_implementation
    )


@pytest.fixture(scope="module")
def items() -> list[Item]:
    prepare = Preparer(LlamaTokenizer(CHECKPOINT), Slicing(), 64, 2048, exact_pixels)
    made = [prepare.text_item(ITEMS["query_en"]["text"])]
    for name in PAGES:
        with Image.open(FOLDER / ITEMS[name]["file"]) as image:
            made.append(prepare.picture_item(image))
    return made


@pytest.fixture(scope="module")
def batch(items: list[Item]) -> MiniCPMBatch:
    return make_batch(items, queries=64, device=CPU)


def test_a_batch_has_the_expected_embeddings(batch: MiniCPMBatch) -> None:
    with torch.no_grad():
        found = embed_batch(load(), batch).numpy()
    expected = np.stack([EXPECTED[f"{name}.embedding"] for name in ["query_en", *PAGES]])
    off = np.abs(found - expected).max(axis=1)
    assert (off <= tolerances("query_en", *PAGES)).all(), off


def test_texts_alone_make_a_batch_without_pictures(items: list[Item]) -> None:
    batch = make_batch(items[:1], queries=64, device=CPU)
    assert batch.pictures == []
    assert batch.sequences.places is None
    with torch.no_grad():
        (found,) = embed_batch(load(), batch).numpy()
    assert np.abs(found - EXPECTED["query_en.embedding"]).max() <= tolerances("query_en")[0]


def gradients(network: VisRAGRetModel, batch: MiniCPMBatch) -> dict[str, torch.Tensor]:
    """Of a contrastive loss: the query against the three pages, the first being the right one."""
    network.requires_grad_(True)
    vectors = embed_batch(network, batch)
    scores = vectors[:1] @ vectors[1:].T / 0.02
    torch.nn.functional.cross_entropy(scores, torch.tensor([0])).backward()
    found = {}
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        found[name] = weight.grad
    return found


@pytest.fixture(scope="module")
def fresh(batch: MiniCPMBatch) -> dict[str, torch.Tensor]:
    return gradients(load(), batch)


def test_gradients_reach_every_weight_and_do_not_depend_on_the_attention(
    batch: MiniCPMBatch, fresh: dict[str, torch.Tensor]
) -> None:
    textbook = gradients(load("eager"), batch)
    for name, gradient in fresh.items():
        scale = float(gradient.abs().max())
        assert scale > 0 or name.endswith("k_proj.bias"), name
        torch.testing.assert_close(gradient, textbook[name], rtol=0, atol=1e-3 * scale + 1e-7)


def test_training_works_after_embedding(batch: MiniCPMBatch, fresh: dict[str, torch.Tensor]) -> None:
    """What inference mode leaves behind must not be part of a graph that is trained."""
    network = load()
    with torch.inference_mode():
        embed_batch(network, batch)
    used = gradients(network, batch)
    for name, gradient in fresh.items():
        torch.testing.assert_close(used[name], gradient, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["vpm.pos_embed", "resampler.attn.in_proj_weight", "resampler.pos_embed"])
def test_positions_follow_their_weights(batch: MiniCPMBatch, name: str) -> None:
    """As after an optimizer step: between two passes of one network, the weights that positions come from change."""

    def change(network: VisRAGRetModel) -> None:
        with torch.no_grad():
            weight = network.get_parameter(name)
            weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))

    with torch.no_grad():
        used, fresh = load(), load()
        before = embed_batch(used, batch)
        change(used)
        change(fresh)
        after = embed_batch(used, batch)
        torch.testing.assert_close(after, embed_batch(fresh, batch), rtol=0, atol=0)
    assert (after - before).abs().max() > 1e-4
