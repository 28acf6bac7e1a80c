"""How large a checkpoint is: as the hub's list of its files says, else as is known of it, else as its name says."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from visrag_integrations.known_models import MODELS

BYTES_EACH = 2  # bfloat16, as most checkpoints are kept
# "Qwen3-VL-8B-Instruct", "colnomic-embed-multimodal-3b", "colSmol-256M"; not "Qwen2.5-VL" or "v1.0".
_IN_A_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d{1,4}(?:\.\d{1,3})?)([bm])(?![A-Za-z0-9])", re.IGNORECASE)
_HUB_SECONDS = 5.0  # who has no network waits so long once; the hub answers in a tenth of it


def billions_of(name: str) -> float | None:
    """Billions of parameters, as is known of the checkpoint or as its name says.

    >>> billions_of("openbmb/VisRAG-Ret"), billions_of("my-org/ColWhat-v1.5-8B"), billions_of("my-org/mine")
    (3.4, 8.0, None)
    """
    known = {model.name: model.parameters for model in MODELS}.get(name)
    if known:
        return known / 1000
    found = _IN_A_NAME.findall(name.rpartition("/")[2])
    if not found:
        return None
    number, unit = found[0]
    if unit in "mM":
        return float(number) / 1000
    return float(number)


def known_bytes(name: str) -> int | None:
    """What its weights take, by the number of parameters; None where nothing is known."""
    billions = billions_of(name)
    if billions is None:
        return None
    return int(billions * 1e9) * BYTES_EACH


def weights_of(name: str) -> int | None:
    """What the weights of a checkpoint take: of a folder its files', else as is known; None where nothing is.

    A folder with an adapter needs the model that it adapts too; where that one's size is not known, none is.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return known_bytes(name) or bytes_on_hub(name)
    total = 0
    for place in _weight_folders(folder):
        total += sum(file.stat().st_size for file in place.glob("*.safetensors"))
    if (folder / "adapter_config.json").is_file():
        base = str(_json_in(folder / "adapter_config.json", {}).get("base_model_name_or_path") or "")
        adapted = weights_of(base) if base and Path(base).expanduser() != folder else None
        return None if adapted is None else total + adapted
    return total or None


def _weight_folders(folder: Path) -> set[Path]:
    """The folder itself, and those of its modules, as sentence-transformers keeps them; none of a run's checkpoints."""
    folders = {folder}
    for module in _json_in(folder / "modules.json", []):
        if isinstance(module, dict):
            folders.add(folder / str(module.get("path") or ""))
    return folders


def _json_in(file: Path, otherwise: Any) -> Any:
    """What a file says, if it is of this type; a damaged one is said by whoever loads the model."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise
    return found if isinstance(found, type(otherwise)) else otherwise


def is_offline() -> bool:
    """Whether nothing is to be fetched from the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


def is_cached(name: str) -> bool:
    """Whether weights of that name were fetched before."""
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return False
    config = try_to_load_from_cache(name, "config.json")
    return isinstance(config, str) and any(Path(config).parent.glob("*.safetensors"))


def bytes_on_hub(name: str) -> int | None:
    """What the hub's list of files says its weights take; None where it cannot be asked."""
    if is_offline():
        return None
    try:
        from huggingface_hub import HfApi

        found = HfApi().model_info(name, files_metadata=True, timeout=_HUB_SECONDS)
    except Exception:  # noqa: BLE001 (no package, no network, no such name: whoever loads it says which)
        return None
    sizes = [file.size or 0 for file in found.siblings or () if file.rfilename.endswith(".safetensors")]
    return sum(sizes) or None


def in_words(size: int) -> str:
    """Bytes as people say them.

    >>> in_words(16_600_000_000), in_words(503_000_000)
    ('17 GB', '503 MB')
    """
    if size >= 1e9:
        gigabytes = size / 1e9
        return f"{gigabytes:.0f} GB" if gigabytes >= 10 else f"{gigabytes:.1f} GB"
    return f"{size / 1e6:.0f} MB"
