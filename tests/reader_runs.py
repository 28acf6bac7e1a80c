"""Coloured pages for the training of readers: a question shows two pages, the answer is the first one's colour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from visrag_integrations.evaluation import EvaluationSet, Question
from visrag_integrations.types import Page

COLOURS = ("red", "blue", "green", "black")
SIDE = 56
SMALL: dict[str, Any] = {"min_pixels": SIDE * SIDE}
"""Recipe values that leave these pages as they are."""


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), colour)


def truth_of(first: str, second: str) -> str:
    return (
        f"<observe>two pages</observe><evidence>[1]: {first}\n[2]: {second}</evidence><think>so</think>"
        f"<answer>{first}</answer>"
    )


def write_rows(folder: Path, *, extra: Sequence[dict[str, Any]] = ()) -> Path:
    """Sixteen rows in the published layout of RS-GRPO, their pictures beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        picture(colour).save(folder / f"{colour}.png")
    rows: list[dict[str, Any]] = []
    for first in COLOURS:
        for second in COLOURS:
            text = f"Colour {first[0]}{second[0]}? <image><image>"
            images = [f"{first}.png", f"{second}.png"]
            rows.append({"prompt": text, "answer": truth_of(first, second), "image": images})
    path = folder / "train.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in (*rows, *extra)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def questions() -> EvaluationSet:
    """Two held-out questions with their pages."""
    asked = []
    for number, colour in enumerate(COLOURS[:2]):
        pages = (Page.from_image(picture(colour), doc_id=f"d{number}", text=colour),)
        asked.append(Question(f"q{number}", "Which colour?", answers=(colour,), pages=pages))
    return EvaluationSet("held out", tuple(asked))
