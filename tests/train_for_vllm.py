"""A small reader and agent for `test_vllm_trained.py`: trained in the one environment, served by the other.

python tests/train_for_vllm.py FOLDER     # FOLDER/checkpoint, FOLDER/agent; FOLDER/answers.json: what they write here
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from agent_proof import LETTERS, LetterRetriever, first_stage, make_base, second_stage
from reader_runs import COLOURS, SMALL, picture, truth_of, write_rows
from tiny_models import build_qwen2_5_vl

from visrag_integrations import Page, VisRAG, load_generator
from visrag_integrations.agent import VRAGAgent
from visrag_integrations.types import GenerationSettings, ScoredPage

GREEDY = GenerationSettings(temperature=0.0, max_tokens=160)
GREEDY_TURN = GenerationSettings(temperature=0.0, max_tokens=8)
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


def ask_agent(generator: Any, trained: Path | None = None) -> dict[str, list[str]]:
    """Question -> the turns of a run, greedy; all runs under way at once."""
    agent = VRAGAgent(LetterRetriever(), generator, settings=GREEDY_TURN, trained=trained)
    asked = [f"{letter}?" for letter in LETTERS[:8]]
    return {trace.question: [turn.text for turn in trace.turns] for trace in agent.run_many(asked)}


def train_reader(root: Path, folder: Path) -> dict[str, Any]:
    """Leaves the reader in the folder; what it answers here, and what is right."""
    from visrag_integrations.training import train_evidence

    base = build_qwen2_5_vl(root / "base")
    data = write_rows(root / "data")
    settings: dict[str, Any] = {"micro_batch": 8, "save_steps": 100}
    first: dict[str, Any] = {"stage": "sft", "max_steps": 80, "batch_size": 16, "lr": 3e-3, "recipe": SMALL}
    sft = train_evidence(base, data, root / "sft", **first, **settings)
    recipe = {**SMALL, "samples": 4, "max_response": 120, "keep_above": -9.0}
    then: dict[str, Any] = {"stage": "rl", "max_steps": 2, "batch_size": 4, "lr": 1e-5, "recipe": recipe}
    rl = train_evidence(sft.checkpoint, data, root / "rl", **then, **settings)
    answers = ask(load_generator(rl.checkpoint, engine="transformers", device="cpu"))
    shutil.copytree(rl.checkpoint, folder)
    return {"answers": answers, "right": [truth_of(first, second) for first, second in ASKED]}


def train_agent(root: Path, folder: Path) -> dict[str, Any]:
    """Leaves the agent in the folder; the turns of its runs here."""
    base = make_base(root / "base", 0)
    sft = first_stage(base, root, steps=120, knows=1.0)
    rl = second_stage(sft.checkpoint, root, steps=2, lr=1e-4)
    turns = ask_agent(load_generator(rl.checkpoint, engine="transformers", device="cpu"))
    shutil.copytree(rl.checkpoint, folder)
    return {"turns": turns}


def main(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        kept = train_reader(Path(scratch) / "reader", folder / "checkpoint")
        kept |= train_agent(Path(scratch) / "agent", folder / "agent")
    # Last: where it is there, all of it is.
    (folder / "answers.json").write_text(json.dumps(kept, indent=1), encoding="utf-8")
    print(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
