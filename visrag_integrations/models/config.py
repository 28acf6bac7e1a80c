"""What a checkpoint's `config.json` says about a VisRAG-Ret network, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visrag_integrations.errors import CheckpointError
from visrag_integrations.models.minicpm import MiniCPMConfig
from visrag_integrations.models.resampler import HEAD_SIZE
from visrag_integrations.models.siglip import SiglipConfig

KNOWN_TOWER = "vit_so400m_patch14_siglip_384"  # the one whose sizes need not be written down
# Without a default: they shape the weights, and differ from one network to the next.
_REQUIRED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


@dataclass(frozen=True)
class VisRAGRetConfig:
    """Sizes of the whole network and how a page is cut for it.

    Attributes:
        decoder: The language model's sizes.
        tower: The vision tower's sizes.
        query_num: Vectors a picture becomes.
        max_slice_nums: At most so many slices a page, beside the overview.
        scale_resolution: A slice has about this many pixels squared.
        slice_mode: False: a page goes in as one picture, as large as it is.
    """

    decoder: MiniCPMConfig
    tower: SiglipConfig
    query_num: int = 64
    max_slice_nums: int = 9
    scale_resolution: int = 448
    slice_mode: bool = True


def _number(config: Mapping[str, Any], key: str, default: float | None = None, *, above: float = 0) -> Any:
    """The number under a key: an int where the default is one or there is none, and more than `above`."""
    value = config.get(key, default)
    if value is None:
        raise CheckpointError(f"config.json has no {key!r}. Give a whole VisRAG-Ret checkpoint.")
    allowed: tuple[type[int] | type[float], ...] = (int,)
    wanted = "a whole number"
    if isinstance(default, float):
        allowed, wanted = (int, float), "a number"
    # bool is an int to Python, but `true` is no size
    if isinstance(value, bool) or not isinstance(value, allowed) or value <= above:
        raise CheckpointError(f"config.json says {key} = {value!r}; it must be {wanted} above {above}.")
    return value


def _flag(config: Mapping[str, Any], key: str, default: bool) -> bool:
    value = config.get(key, default)
    if not isinstance(value, bool):
        raise CheckpointError(f"config.json says {key} = {value!r}; it must be true or false.")
    return value


def _expect(config: Mapping[str, Any], key: str, supported: object) -> None:
    value = config.get(key, supported)
    if value != supported:
        raise CheckpointError(f"config.json says {key} = {value!r}; this network has only {supported!r}.")


def parse_decoder(config: Mapping[str, Any]) -> MiniCPMConfig:
    """The decoder's sizes; those that shape the weights must be there."""
    _expect(config, "hidden_act", "silu")
    _expect(config, "rope_scaling", None)
    sizes = {key: _number(config, key) for key in _REQUIRED}
    heads = shared = sizes["num_attention_heads"]
    if config.get("num_key_value_heads") is not None:  # `null` stands for: as many as there are heads
        shared = _number(config, "num_key_value_heads")
    decoder = MiniCPMConfig(
        **sizes,
        num_key_value_heads=shared,
        rms_norm_eps=_number(config, "rms_norm_eps", 1e-5),
        rope_theta=_number(config, "rope_theta", 10000.0),
        scale_emb=_number(config, "scale_emb", 12.0),
        scale_depth=_number(config, "scale_depth", 1.4),
        attention_bias=_flag(config, "attention_bias", False),
    )
    if decoder.hidden_size % heads or decoder.head_size % 2:
        raise CheckpointError(f"hidden_size {decoder.hidden_size} does not make {heads} heads of an even size.")
    if heads % decoder.num_key_value_heads:
        raise CheckpointError(f"{heads} attention heads cannot share {decoder.num_key_value_heads} key/value heads.")
    if decoder.hidden_size % HEAD_SIZE:
        raise CheckpointError(f"hidden_size {decoder.hidden_size} is no multiple of {HEAD_SIZE}, the resampler's head.")
    return decoder


def parse_tower(config: Mapping[str, Any]) -> SiglipConfig:
    """The tower's sizes: those of `vision_config`, else so400m's, which the released checkpoints leave out."""
    vision = config.get("vision_config")
    drop = _flag(config, "drop_vision_last_layer", True)
    patch = _number(config, "patch_size", 14)
    if vision is None:
        encoder = str(config.get("vision_encoder", KNOWN_TOWER))
        if not encoder.startswith(KNOWN_TOWER):
            raise CheckpointError(
                f"config.json says vision_encoder = {encoder!r} and no vision_config. Sizes are known for "
                f"{KNOWN_TOWER} only; write the tower's sizes under 'vision_config'."
            )
        return SiglipConfig(patch_size=patch, drop_last=drop)
    if not isinstance(vision, Mapping):
        raise CheckpointError(f"config.json says vision_config = {vision!r}; it must be an object.")
    width = _number(vision, "embed_dim", 1152)
    # timm states a ratio, other writers the size itself; `int` cuts off as timm does: 1152 * 3.7362 -> 4304.
    hidden = vision.get("intermediate_size") or int(width * _number(vision, "mlp_ratio", 3.7362))
    tower = SiglipConfig(
        embed_dim=width,
        depth=_number(vision, "depth", 27, above=int(drop)),
        num_heads=_number(vision, "num_heads", 16),
        intermediate_size=_number({"intermediate_size": hidden}, "intermediate_size"),
        image_size=_number(vision, "image_size", 384),
        patch_size=_number(vision, "patch_size", patch),
        drop_last=drop,
    )
    if tower.embed_dim % tower.num_heads:
        raise CheckpointError(f"The tower's width {tower.embed_dim} cannot be shared by {tower.num_heads} heads.")
    if tower.patch_size != patch:
        raise CheckpointError(f"patch_size is {patch}, but vision_config says {tower.patch_size}; they must be equal.")
    return tower


def parse_config(config: Mapping[str, Any]) -> VisRAGRetConfig:
    """A checkpoint's `config.json`, checked.

    Raises:
        CheckpointError: A key that is needed is missing, or a value cannot be.
    """
    return VisRAGRetConfig(
        decoder=parse_decoder(config),
        tower=parse_tower(config),
        query_num=_number(config, "query_num", 64),
        max_slice_nums=_number(config, "max_slice_nums", 9),
        scale_resolution=_number(config, "scale_resolution", 448),
        slice_mode=_flag(config, "slice_mode", True),
    )
