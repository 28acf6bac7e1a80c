"""Coloured squares to train on: pages of four, queries that name them, and a tiny random VisRAG-Ret that learns them.

Also what `benchmarks/training.py` and the notebook on training draw.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from visrag_integrations.embedders.adapters import published_name
from visrag_integrations.evaluation import EvaluationSet, Question, page_key
from visrag_integrations.models.config import parse_config
from visrag_integrations.models.visrag_ret import VisRAGRetModel
from visrag_integrations.types import Page

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 220),
    "orange": (255, 150, 20),
    "purple": (130, 40, 160),
    "black": (15, 15, 15),
    "pink": (255, 150, 190),
    "brown": (120, 75, 40),
}
SIDE = 56  # pixels: one slice of 4 x 4 patches for a network whose scale_resolution is 56
TINY = Path(__file__).parent / "data" / "visrag_ret_tiny" / "checkpoint"
Quad = tuple[str, str, str, str]
SIZES = {
    "_name_or_path": "quads-base",
    "hidden_size": 128,
    "dim_model_base": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "query_num": 4,
    "image_size": SIDE,
    "scale_resolution": SIDE,
}


def make_base(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A random checkpoint of 0.8 M weights in the published layout, with a language-model head that nobody reads."""
    folder.mkdir(parents=True)
    for path in TINY.iterdir():
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((TINY / "config.json").read_text()) | SIZES | changes
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = VisRAGRetModel.random(parse_config(config), device=torch.device("cpu"), dtype=torch.float32)
        weights = {published_name(network, name): weight.to(dtype) for name, weight in network.state_dict().items()}
        weights["llm.lm_head.weight"] = torch.randn(config["vocab_size"], config["hidden_size"]).to(dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def draw(quad: Quad) -> Image.Image:
    """Two squares above two squares."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    half = SIDE // 2
    for place, colour in enumerate(quad):
        row, column = divmod(place, 2)
        image.paste(COLOURS[colour], (column * half + 3, row * half + 3, (column + 1) * half - 3, (row + 1) * half - 3))
    return image


def query_of(quad: Quad) -> str:
    """What is drawn, in words.

    "red green above blue pink" stands for red and green in the upper row.
    """
    return f"{quad[0]} {quad[1]} above {quad[2]} {quad[3]}"


def all_quads(seed: int = 0) -> list[Quad]:
    """Every page there can be, 4,096 of them, shuffled."""
    quads = list(itertools.product(COLOURS, repeat=4))
    order = np.random.default_rng(seed).permutation(len(quads))
    return [quads[number] for number in order]  # type: ignore[misc]


def quads_set(quads: Sequence[Quad], name: str) -> EvaluationSet:
    """Pages of these squares, and one question each."""
    pages: list[Page] = []
    questions: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    for number, quad in enumerate(quads):
        page = Page.from_image(draw(quad), doc_id=f"{name}-{number}")
        pages.append(page)
        questions.append(Question(f"{name}-{number}", query_of(quad)))
        qrels[f"{name}-{number}"] = {page_key(page): 1}
    return EvaluationSet(name, tuple(questions), qrels, tuple(pages))
