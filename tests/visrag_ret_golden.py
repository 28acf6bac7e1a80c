"""The expected numbers of `tests/data/visrag_ret_tiny` (its README says where they come from), loaded once."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

torch.set_num_threads(1)  # at these sizes threads mostly wait for each other

FOLDER = Path(__file__).parent / "data" / "visrag_ret_tiny"
CHECKPOINT = FOLDER / "checkpoint"
MANIFEST: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
ITEMS: dict[str, dict[str, Any]] = {item["id"]: item for item in MANIFEST["items"]}
IMAGES = [name for name, item in ITEMS.items() if item["kind"] == "image"]
TEXTS = [name for name, item in ITEMS.items() if item["kind"] == "text"]
EXPECTED = dict(np.load(FOLDER / "expected.npz"))
TOLERANCE = MANIFEST["tolerances"]["embedding_fp32_max_abs"]
ROUNDED_TOLERANCE = 1e-3
"""Where this Pillow rounds a pixel otherwise than the one that made the expected numbers (their README says so)."""


def pillow_slices(name: str) -> list[np.ndarray]:
    """A picture's slices by Pillow alone, of the expected sizes."""
    expected = ITEMS[name]
    with Image.open(FOLDER / expected["file"]) as opened:
        image = opened.convert("RGB")
    overview, *others = expected["slice_sizes_wh"]
    parts = [image.resize(tuple(overview), Image.Resampling.BICUBIC)]
    if others:
        (columns, rows), (width, height) = expected["best_grid_cols_rows"], others[0]
        whole = image.resize((columns * width, rows * height), Image.Resampling.BICUBIC)
        places = [(x * width, y * height) for y in range(rows) for x in range(columns)]
        parts += [whole.crop((x, y, x + width, y + height)) for x, y in places]
    return [np.asarray(part) for part in parts]


def hashes(slices: list[np.ndarray]) -> list[str]:
    return [hashlib.sha256(part.tobytes()).hexdigest() for part in slices]


ROUNDED = {name for name in IMAGES if hashes(pillow_slices(name)) != ITEMS[name]["slice_rgb_sha256"]}
"""The pictures that this Pillow scales to other pixels than the expected ones; none with Pillow 13."""


def tolerances(*names: str) -> np.ndarray:
    """How far each item's numbers may be from the expected ones."""
    return np.array([ROUNDED_TOLERANCE if name in ROUNDED else TOLERANCE for name in names])


def rows_of(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def copy_checkpoint(target: Path, *, leave_out: tuple[str, ...] = (), **config: Any) -> Path:
    """A copy of the tiny checkpoint, with other values in its config.json (None takes a key away)."""
    shutil.copytree(CHECKPOINT, target, ignore=shutil.ignore_patterns(*leave_out))
    content = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8")) | config
    content = {key: value for key, value in content.items() if value is not None or key not in config}
    (target / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return target
