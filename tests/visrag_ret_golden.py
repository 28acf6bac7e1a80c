"""The expected numbers of `tests/data/visrag_ret_tiny` (its README says where they come from), loaded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)  # at these sizes threads mostly wait for each other

FOLDER = Path(__file__).parent / "data" / "visrag_ret_tiny"
CHECKPOINT = FOLDER / "checkpoint"
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
ITEMS: dict[str, dict[str, Any]] = {item["id"]: item for item in MANIFEST["items"]}
IMAGES = [name for name, item in ITEMS.items() if item["kind"] == "image"]
TEXTS = [name for name, item in ITEMS.items() if item["kind"] == "text"]
EXPECTED = dict(np.load(FOLDER / "expected.npz"))
TOLERANCE = MANIFEST["tolerances"]["embedding_fp32_max_abs"]


def rows_of(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def copy_checkpoint(target: Path, *, leave_out: tuple[str, ...] = (), **config: Any) -> Path:
    """A copy of the tiny checkpoint, with other values in its config.json (None takes a key away)."""
    shutil.copytree(CHECKPOINT, target, ignore=shutil.ignore_patterns(*leave_out))
    content = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8")) | config
    content = {key: value for key, value in content.items() if value is not None or key not in config}
    (target / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return target
