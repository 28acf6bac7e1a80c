"""Checkpoints that bring code of their own, which is not run here: refused by name, with what serves them instead."""

from __future__ import annotations

from typing import Any

from visrag_integrations.errors import CheckpointError, printable

OWN_CODE = (
    "openbmb/MiniCPM-V",
    "openbmb/MiniCPM-V-2",
    "openbmb/MiniCPM-Llama3-V-2_5",
    "openbmb/MiniCPM-V-2_6",
    "openbmb/MiniCPM-o-2_6",
    "openbmb/MiniCPM-V-4",
    "openbmb/MiniCPM-V-4_5",
)
"""Published ones: transformers has networks of MiniCPM-V from 4.6 on."""


def refuse_own_code(name: str) -> None:
    """Nothing, unless the published checkpoint of that name needs its own code.

    Raises:
        CheckpointError: It does; the message says how a server runs it.
    """
    if name in OWN_CODE:
        raise CheckpointError(_refusal(name))


def check_config(name: str, config: dict[str, Any], known: Any) -> None:
    """Nothing, unless the network that a config.json names is not among the known ones but in the checkpoint's code.

    Args:
        name: Of the checkpoint.
        config: Its config.json.
        known: The `model_type`s that transformers has networks of.

    Raises:
        CheckpointError: It is; the message says how a server runs it.
    """
    if config.get("auto_map") and config.get("model_type") not in known:
        raise CheckpointError(_refusal(name))


def _refusal(name: str) -> str:
    said = printable(name)
    return (
        f"{said!r} brings code of its own, without which transformers cannot load it; such code is not run here. "
        f"A vLLM server runs it: vllm serve {said} --trust-remote-code. Then give its URL as the generator, "
        'with the prompt for general models: load_generator("http://localhost:8000/v1") and prompt="plain", or '
        "--generator http://localhost:8000/v1 --prompt plain."
    )
