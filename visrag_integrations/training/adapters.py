"""`merge_adapter`: a trained LoRA adapter and its base as one checkpoint."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from visrag_integrations.embedders import adapters
from visrag_integrations.errors import CheckpointError, SettingError
from visrag_integrations.models.weights import read_json
from visrag_integrations.training.bases import Base, find_base
from visrag_integrations.training.card import adapter_card
from visrag_integrations.training.saving import save_whole

READERS = "CAUSAL_LM"
"""What PEFT's config calls the task of an adapter that writes."""


def merge_adapter(folder: str | Path, output: str | Path) -> Path:
    """Write a checkpoint with the adapter in its weights: for servers and libraries that take whole checkpoints only.

    Args:
        folder: The adapter, such as a checkpoint that `train_retriever` or `train_evidence` wrote with `lora=True`.
        output: A folder that is not there yet; written whole or not at all.

    Returns:
        `output`.

    Raises:
        CheckpointError: The folder is no adapter, or its base cannot be found or does not fit.
        SettingError: `output` is there already.
    """
    source, target = Path(folder).expanduser(), Path(output).expanduser()
    if not (source / adapters.CONFIG).is_file() or not (source / adapters.WEIGHTS).is_file():
        raise CheckpointError(f"{str(source)!r} holds no {adapters.CONFIG} and {adapters.WEIGHTS}: it is no adapter.")
    if target.exists():
        raise SettingError(f"{str(target)!r} is there already. Name a new folder.")
    config = read_json(source / adapters.CONFIG)
    name = config.get("base_model_name_or_path")
    if not name:
        raise CheckpointError(f"{source / adapters.CONFIG} does not name its base (base_model_name_or_path).")
    if config.get("task_type") == READERS:
        from visrag_integrations.training.reader_saving import merged_reader

        _write(*merged_reader(str(name), source), source, target)
        return target
    base = find_base(str(name))
    embedder = base.load(device="cpu", dtype="float32")
    try:
        adapters.add_adapter(embedder.module, source)
        _write(base, embedder.module, source, target)
    finally:
        embedder.close()
    return target


def _write(base: Base, network: Any, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    save_whole(base, unfinished, network, network.state_dict())
    # Nothing goes on from a merged checkpoint, so the finer weights are not needed.
    (unfinished / "float32_weights.safetensors").unlink(missing_ok=True)
    (unfinished / "README.md").write_text(adapter_card(base, source), encoding="utf-8")
    os.replace(unfinished, target)
