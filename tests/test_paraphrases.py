"""The questions of benchmarks/: which half each belongs to was fixed by its hash before anything was tuned on them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "benchmarks"


def rows_of(name: str) -> list[dict[str, object]]:
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_half_holds_the_questions_of_its_hashes() -> None:
    for half, odd in (("open", 0), ("sealed", 1)):
        for row in rows_of(f"paraphrases_{half}"):
            question = str(row["query"])
            assert hashlib.sha256(question.encode("utf-8")).digest()[0] % 2 == odd, question
            assert row["kind"] == half


def test_there_are_200_and_each_is_asked_once() -> None:
    new = [str(row["query"]) for half in ("open", "sealed") for row in rows_of(f"paraphrases_{half}")]
    assert len(new) == 200
    asked = [*new, *(str(row["query"]) for row in rows_of("paraphrases"))]
    assert len({question.casefold() for question in asked}) == len(asked)
