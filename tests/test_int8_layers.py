"""Int8 linear layers and the fast form of a SigLIP tower, against torch and transformers in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import SiglipVisionConfig, SiglipVisionModel

from visrag_integrations.embedders import int8_linear as layers
from visrag_integrations.embedders.fast_vision import FastEncoder, bfloat16_attention, float32_attention
from visrag_integrations.embedders.int8_linear import FusedInt8Linear, PlainInt8Linear, has_fused_int8, joined

needs_fused = pytest.mark.skipif(not has_fused_int8(), reason="this torch has no int8 products of oneDNN")
KINDS = [PlainInt8Linear, pytest.param(FusedInt8Linear, marks=needs_fused)]


def drawn_linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(outputs, inputs, generator=generator))
        linear.weight[3] = 0
    return linear


def bound_of(linear: nn.Linear, inputs: Tensor) -> Tensor:
    """Half a step of each weight, times what it is multiplied with, and half a step of each input, times its weight."""
    weight = linear.weight.detach()
    step = weight.abs().amax(1) / 127
    of_inputs = (inputs.max().clamp(min=0) - inputs.min().clamp(max=0)) / (255 if layers.has_vnni() else 127)
    return step / 2 * inputs.abs().sum(-1, keepdim=True) + of_inputs * weight.abs().sum(1) + 1e-4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 40), (2, 5, 40), (1, 40), (1, 1, 40)])
def test_an_int8_layer_is_the_layer_within_its_steps(kind: Any, bias: bool, shape: tuple[int, ...]) -> None:
    linear = drawn_linear(40, 24, bias)
    inputs = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = linear(inputs)
        found = kind(linear)(inputs)
    assert found.dtype == torch.float32
    assert ((found - expected).abs() <= bound_of(linear, inputs)).all()
    assert (found - expected).abs().max() > 0  # it is int8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [torch.zeros(3, 40), torch.full((3, 40), 5.0), torch.full((3, 40), -5.0)])
def test_inputs_that_are_all_the_same(kind: Any, inputs: Tensor) -> None:
    linear = drawn_linear(40, 24)
    with torch.no_grad():
        assert ((kind(linear)(inputs) - linear(inputs)).abs() <= bound_of(linear, inputs)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_lie_otherwise_in_memory(kind: Any) -> None:
    """Turned tensors, and every second row of one, give what their copies give."""
    layer = kind(drawn_linear(40, 24))
    turned = torch.randn(40, 6, generator=torch.Generator().manual_seed(5)).t()
    rows = torch.randn(12, 40, generator=torch.Generator().manual_seed(6))[::2]
    with torch.no_grad():
        for inputs in (turned, rows):
            torch.testing.assert_close(layer(inputs), layer(inputs.contiguous()), rtol=0, atol=1e-6)


def test_the_lowest_number_stays_the_lowest() -> None:
    """It lies 218.4999 steps below 0: with 218 bytes below that of 0 it was one less than a byte can be, and so 255."""
    given = torch.tensor([-6.154929161071777, 1.0] + [0.1] * 62)
    found, scale, zero = layers.as_bytes(given)
    assert int(found.argmin()) == 0
    assert ((found.float() - zero) * scale - given).abs().max() <= 0.51 * scale


@needs_fused
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "kind"), [("gelu", "none"), ("gelu_pytorch_tanh", "tanh")])
def test_gelu_is_done_with_the_products(dtype: torch.dtype, name: str, kind: str) -> None:
    linear = drawn_linear(40, 24)
    inputs = torch.randn(6, 40, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        products = linear(inputs)
        found = FusedInt8Linear(linear, name, dtype)(inputs)
    expected = nn.functional.gelu(products, approximate=kind)
    assert found.dtype == dtype
    # GELU is nowhere steeper than 1.13; bfloat16 keeps eight bits.
    allowed = 1.13 * bound_of(linear, inputs) + expected.abs() / 128
    assert ((found.float() - expected).abs() <= allowed).all()


def test_layers_that_read_the_same_are_joined() -> None:
    one, other = drawn_linear(40, 24), drawn_linear(40, 8, bias=False)
    inputs = torch.randn(6, 40, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        torch.testing.assert_close(joined(one, other)(inputs), torch.cat([one(inputs), other(inputs)], dim=-1))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_attention_is_torchs_own(threads: int) -> None:
    projected = torch.randn(50, 3, 4, 16, generator=torch.Generator().manual_seed(4))
    query, key, value = projected.permute(1, 2, 0, 3)
    # By hand: each head's softmax of products, times its values.
    heads = [(query[h] @ key[h].T).softmax(-1) @ value[h] for h in range(4)]
    expected = torch.cat(heads, dim=-1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = bfloat16_attention(projected)
    finally:
        torch.set_num_threads(before)
    assert found.dtype == torch.float32
    # Products of up to 20 in eight bits are wrong by 0.06: so much is a weight, and what it weighs.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.2)
    assert nn.functional.cosine_similarity(found, expected).min() > 0.999
    torch.testing.assert_close(float32_attention(projected), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=["gelu_pytorch_tanh", "gelu", "relu"])
def tower(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(7)
    config = SiglipVisionConfig(
        hidden_size=48, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=8,
        hidden_act=request.param, vision_use_head=False,
    )  # fmt: skip
    made = SiglipVisionModel(config).eval()
    with torch.no_grad():
        # As drawn for training, biases are zero and weights so small that attention is even: nothing would be tested.
        for name, parameter in made.named_parameters():
            if "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape) * parameter.shape[-1] ** -0.5)
    return made


@pytest.mark.parametrize("bfloat16", [True, False])
@pytest.mark.parametrize("fused", [pytest.param(True, marks=needs_fused), False])
def test_the_fast_tower_is_transformers_own(
    tower: Any, bfloat16: bool, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "has_fused_int8", lambda: fused)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        embedded = tower.embeddings(pixels)
        expected = tower.encoder(inputs_embeds=embedded).last_hidden_state
        fast = FastEncoder(tower.encoder, bfloat16)
        found = fast(inputs_embeds=embedded).last_hidden_state
        alone = fast(inputs_embeds=embedded[1:2]).last_hidden_state
    assert found.shape == expected.shape
    assert nn.functional.cosine_similarity(found, expected, dim=-1).min() >= 0.995
    assert (found - expected).abs().max() > 0
    torch.testing.assert_close(alone, found[1:2], rtol=0, atol=0)  # a tile does not depend on its neighbours


def test_a_mask_is_refused(tower: Any) -> None:
    with pytest.raises(AssertionError, match="every patch"):
        FastEncoder(tower.encoder, True)(torch.zeros(1, 64, 48), attention_mask=torch.ones(1, 64))


@pytest.mark.parametrize("wrong", ["raises", "is missing", "gives other numbers"])
def test_onednn_is_taken_only_where_it_works(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(nn.Module):
        def __init__(self, linear: nn.Linear, *_: Any) -> None:
            super().__init__()
            if wrong == "is missing":
                raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'")

        def forward(self, inputs: Tensor) -> Tensor:
            if wrong == "raises":
                raise RuntimeError("could not create a primitive")
            return torch.zeros(len(inputs), 32)

    has_fused_int8.cache_clear()
    monkeypatch.setattr(layers, "FusedInt8Linear", Broken)
    try:
        assert not has_fused_int8()
        assert type(layers.int8_linear(drawn_linear(40, 24))) is PlainInt8Linear
        with_gelu = layers.int8_linear(drawn_linear(40, 24), "gelu")
        assert isinstance(with_gelu, nn.Sequential)
        assert with_gelu(torch.full((1, 40), -5.0)).min() > -0.2  # as GELU's least
    finally:
        has_fused_int8.cache_clear()
