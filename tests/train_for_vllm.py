"""A small trained reader for `test_vllm_trained.py`: written by the environment that trains, served by the other.

python tests/train_for_vllm.py FOLDER     # FOLDER/checkpoint, and FOLDER/answers.json: what it answers here
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from reader_runs import COLOURS, SMALL, picture, truth_of, write_rows
from tiny_models import build_qwen2_5_vl

from visrag_integrations import Page, VisRAG, load_generator
from visrag_integrations.types import GenerationSettings, ScoredPage

GREEDY = GenerationSettings(temperature=0.0, max_tokens=160)
ASKED = [("red", "blue"), ("green", "black"), ("blue", "green")]
QUESTION = "Colour {0}{1}? "


class TwoPages:
    """A retriever that finds the two colours that a question names by their first letters."""

    def retrieve(self, query: Any, *_: Any, **__: Any) -> list[ScoredPage]:
        text = getattr(query, "text", query)
        letters = text.removeprefix("Colour ")[:2]
        found = []
        for number, letter in enumerate(letters, 1):
            colour = next(each for each in COLOURS if each.startswith(letter))
            page = Page.from_image(picture(colour), doc_id=colour, number=number, text=colour)
            found.append(ScoredPage(page, 1.0 / number, "cosine"))
        return found


def ask(generator: Any) -> dict[str, str]:
    """Question -> what was written, greedy, through the whole library."""
    rag = VisRAG(TwoPages(), generator, prompt="plain", settings=GREEDY, top_k=2)
    answers: dict[str, str] = {}
    for first, second in ASKED:
        question = QUESTION.format(first[0], second[0])
        answers[question] = rag.ask(question).raw
    return answers


def main(folder: Path) -> None:
    from visrag_integrations.training import train_evidence

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        base = build_qwen2_5_vl(root / "base")
        data = write_rows(root / "data")
        settings: dict[str, Any] = {"micro_batch": 8, "save_steps": 100}
        first: dict[str, Any] = {"stage": "sft", "max_steps": 80, "batch_size": 16, "lr": 3e-3, "recipe": SMALL}
        sft = train_evidence(base, data, root / "sft", **first, **settings)
        recipe = {**SMALL, "samples": 4, "max_response": 120, "keep_above": -9.0}
        then: dict[str, Any] = {"stage": "rl", "max_steps": 2, "batch_size": 4, "lr": 1e-5, "recipe": recipe}
        rl = train_evidence(sft.checkpoint, data, root / "rl", **then, **settings)
        with_trained = load_generator(rl.checkpoint, engine="transformers", device="cpu")
        answers = ask(with_trained)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copytree(rl.checkpoint, folder / "checkpoint")
    right = [truth_of(first, second) for first, second in ASKED]
    # Last: where it is there, all of it is.
    (folder / "answers.json").write_text(json.dumps({"answers": answers, "right": right}, indent=1), encoding="utf-8")
    print(json.dumps(answers, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
