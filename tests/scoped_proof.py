"""Two rewards, each for one half of a response, on a tiny Qwen2.5-VL: what RS-GRPO has to learn on a processor.

A: digits in the first half of the tokens; B: capitals in the second half. Also run by `benchmarks/training.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration
from trl import GRPOConfig

from visrag_integrations.embedders.pretrained import silent
from visrag_integrations.generation.processors import load_processor
from visrag_integrations.training.scoped import ScopedGRPOTrainer

Curve = list[tuple[float, float]]
"""(digits, capitals) of every step."""
SIDE = 56
LENGTH = 12
COLOURS = ("red", "blue", "green", "black")
PROOF: dict[str, Any] = {"learning_rate": 3e-3, "per_device_train_batch_size": 32, "generations": 16}


def first_half(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return 0, len(offsets) // 2


def second_half(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return len(offsets) // 2, len(offsets)


def share(text: str, good: Callable[[str], bool]) -> float:
    return sum(map(good, text)) / max(len(text), 1)


def digits(completions: Sequence[Any], **_: Any) -> list[float]:
    texts = [completion[0]["content"] for completion in completions]
    return [share(text[: len(text) // 2], str.isdigit) for text in texts]


def capitals(completions: Sequence[Any], **_: Any) -> list[float]:
    texts = [completion[0]["content"] for completion in completions]
    return [share(text[len(text) // 2 :], str.isupper) for text in texts]


def rows_with_two_pictures(questions: Sequence[str]) -> Dataset:
    rows = []
    for number, question in enumerate(questions):
        pictures = [Image.new("RGB", (SIDE, SIDE), COLOURS[number % 4]), Image.new("RGB", (SIDE, SIDE), "white")]
        rows.append({"prompt": [{"role": "user", "content": question}], "images": pictures})
    return Dataset.from_list(rows)


def constant(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(place) for place in range(len(completions))]


def make_trainer(
    base: Path,
    output: Path,
    *,
    rows: Dataset | None = None,
    functions: Sequence[Any] | None = None,
    scopes: Sequence[Any] | None = None,
    rewards: int = 2,
    generations: int = 4,
    published: bool = False,
    **more: Any,
) -> Any:
    """A trainer of a checkpoint; what GRPOConfig has is handed on to it."""
    own = {name: more.pop(name) for name in ("keep_groups", "rounds") if name in more}
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_generations": generations,
        "max_completion_length": LENGTH,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "logging_steps": 1,
        "seed": 0,
        "activation_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "lr_scheduler_type": "constant",
        "max_steps": 1,
        "generation_kwargs": {"min_new_tokens": LENGTH},
        **more,
    }
    with silent():
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    trainer = ScopedGRPOTrainer(
        model,
        list(functions) if functions is not None else [constant] * rewards,
        GRPOConfig(str(output), **settings),
        rows if rows is not None else rows_with_two_pictures(["one", "two", "three", "four"]),
        processing_class=load_processor(str(base)),
        scopes=scopes,
        published=published,
        **own,
    )
    from visrag_integrations.training.callbacks import quieten

    quieten(trainer)
    return trainer


def prove(
    base: Path, output: Path, *, swapped: bool = False, steps: int = 60, seed: int = 0
) -> list[tuple[float, float]]:
    """(digits, capitals) of every step; with the scopes swapped, each reward moves the other's tokens."""
    halves = [second_half, first_half] if swapped else [first_half, second_half]
    trainer = make_trainer(
        base, output, functions=[digits, capitals], scopes=halves, max_steps=steps, seed=seed, **PROOF
    )
    trainer.train()
    curve = []
    for entry in trainer.state.log_history:
        if "rewards/digits/mean" in entry:
            curve.append((entry["rewards/digits/mean"], entry["rewards/capitals/mean"]))
    return curve
