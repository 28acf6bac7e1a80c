"""What a checkpoint's files say of its vectors, without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from visrag_integrations.embedders.checkpoints import fingerprint_of
from visrag_integrations.embedders.library_folders import CONFIG, MODULES, MULTI_VECTOR
from visrag_integrations.embedders.paired import Described
from visrag_integrations.embedders.sentence_transformers import fingerprint_of_folder
from visrag_integrations.errors import CheckpointError


def describe_checkpoint(folder: Path, system: str) -> Described:
    """What the files in a folder say, read as this system reads them.

    Raises:
        CheckpointError: They are no whole checkpoint.
    """
    if system == "sentence-transformers":
        return _sentence_transformer(folder)
    if system == "endpoint":  # a server has the files
        return Described()
    from visrag_integrations.models.weights import find_weight_files

    return Described(fingerprint_of(folder, find_weight_files(folder)))


def _sentence_transformer(folder: Path) -> Described:
    """Of its modules the last that makes vectors says how many numbers they have."""
    config = _read(folder / CONFIG)
    kind: Literal["single", "multi"] = "multi" if config.get("model_type") in MULTI_VECTOR else "single"
    return Described(fingerprint_of_folder(folder), kind, _dimension(folder))


def _dimension(folder: Path) -> int | None:
    """What the last module that makes vectors says; None where none does."""
    modules: Any = []
    if (folder / MODULES).is_file():
        try:
            modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as err:
            raise CheckpointError(f"{MODULES} in {str(folder)!r} cannot be read: {err}.") from err
    for module in reversed(modules):
        config = _read(folder / str(module.get("path", "")) / "config.json")
        kind = str(module.get("type", "")).rpartition(".")[2]
        if kind == "Dense" and isinstance(config.get("out_features"), int):
            return int(config["out_features"])
        if kind == "Pooling":
            return _pooled(config)
    return None


def _pooled(config: dict[str, Any]) -> int | None:
    """Numbers of a vector that a pooling makes: several poolings stand one after the other."""
    size = config.get("embedding_dimension", config.get("word_embedding_dimension"))
    mode = config.get("pooling_mode")
    if not isinstance(size, int):
        return None
    if isinstance(mode, list):
        return size * len(mode)
    if isinstance(mode, str):
        return size
    # As files were before version 6: a yes or no for each pooling.
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    return size * len(chosen) or None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # loading it will say what is wrong with it
        return {}
    return read if isinstance(read, dict) else {}
