"""Which ways of writing runs work where several devices train together."""

from __future__ import annotations

from typing import Any

from accelerate.utils import DistributedType

from visrag_integrations.errors import SettingError

ZERO_SHARDED = 3
"""The stage of DeepSpeed's ZeRO from which weights are sharded; below, gradients and the optimizer's state are."""


def check_rounds(processes: int, *, engine: str | None, engine_devices: int, sharded: bool) -> None:
    """Nothing, if devices may write at their own pace.

    Runs end after one turn or after many, so the devices ask for turns a different number of times. What all of them
    have to ask together would wait for ever, or give one device the turns of another.

    Args:
        processes: That train together.
        engine: How vLLM is used: "server" or "colocate"; None where transformers writes.
        engine_devices: Over how many of them one vLLM is spread.
        sharded: Whether a device holds only a part of the weights.

    Raises:
        SettingError: They may not.
    """
    if processes == 1:
        return
    if engine == "server" or (engine is not None and engine_devices > 1):
        how = 'vllm_mode is "server"' if engine == "server" else f"vllm_tensor_parallel_size is {engine_devices}"
        raise SettingError(
            f"{how}, and {processes} processes train: they write turns at their own pace, which this engine does not "
            'allow. Use vllm_mode="colocate" with vllm_tensor_parallel_size=1.'
        )
    if engine is None and sharded:
        raise SettingError(
            f"The weights are sharded over {processes} processes, and transformers writes: each turn needs all of them "
            'at once, but runs end at different times. Use use_vllm=True, vllm_mode="colocate", or train all weights '
            "on every device (DDP), for example with LoRA."
        )


def is_sharded(accelerator: Any) -> bool:
    """Whether a device holds only a part of the weights: FSDP, or DeepSpeed's ZeRO-3."""
    if accelerator.distributed_type == DistributedType.FSDP:
        return True
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return plugin is not None and plugin.zero_stage == ZERO_SHARDED
