"""The agent learns on a processor: a tiny Qwen2.5-VL, twenty drawn pages, two turns. Also run by benchmarks.

Twenty pages hold a letter and a colour. A question names the letter; the run is right that searches for it, and says
the colour. Experts who know no better draw letters and colours by chance, so the first stage teaches the form alone.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from visrag_integrations.agent import PictureRules
from visrag_integrations.evaluation import EvaluationSet, Question
from visrag_integrations.training import build_runs, train_agent
from visrag_integrations.training.judges import match_judge
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Page, Query, ScoredPage

LETTERS = string.ascii_lowercase[:20]
COLOURS = {"r": "red", "b": "blue", "g": "green", "k": "black"}
"""What is answered, and how it is drawn."""
SIDE = 56
PICTURES = PictureRules(4 * 28 * 28, 16 * 28 * 28, padding=0)
SMALL: dict[str, Any] = {
    "max_turns": 1,
    "template": "{question}",
    "min_pixels": 4 * 28 * 28,
    "max_pixels": 16 * 28 * 28,
}
"""Recipe values for two turns over small pages."""


def page_of(letter: str) -> Page:
    colour = list(COLOURS.values())[LETTERS.index(letter) % 4]
    number = LETTERS.index(letter) + 1
    return Page("pages", number, letter, "pages.pdf", picture=Image.new("RGB", (SIDE, SIDE), colour))


class LetterRetriever:
    """Finds the page with the letter first, then the others in order."""

    def __init__(self) -> None:
        self.pages = [page_of(letter) for letter in LETTERS]

    def retrieve(self, query: str | Query, top_k: int = 5, *, filter: Any = None) -> list[ScoredPage]:
        text = str(query)
        ranked = sorted(self.pages, key=lambda page: (page.text not in text, page.number))
        return [ScoredPage(page, 1 / place) for place, page in enumerate(ranked[:top_k], 1)]


def questions() -> EvaluationSet:
    asked: list[Question] = []
    qrels: dict[str, dict[str, int]] = {}
    for number, letter in enumerate(LETTERS):
        asked.append(Question(f"q{number}", f"{letter}?", answers=(list(COLOURS)[number % 4],)))
        qrels[f"q{number}"] = {f"pages.pdf#page={number + 1}": 1}
    return EvaluationSet("letters", tuple(asked), qrels)


class ChanceExpert:
    """Searches for a letter and says a colour, both drawn."""

    name = "chance"

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        written: list[Generation] = []
        for conversation in conversations:
            if len(conversation) == 1:
                text = f"</think><search>{self.random.choice(LETTERS)}</search>"
            else:
                text = f"</think><answer>{self.random.choice(list(COLOURS))}</answer>"
            written.append(Generation(text, finish_reason="stop"))
        return written

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Any:
        yield self.generate([conversation])[0]


def many_times(asked: EvaluationSet, times: int) -> EvaluationSet:
    """The same questions, again and again under other ids."""
    more: list[Question] = []
    for number in range(times):
        for question in asked.questions:
            more.append(Question(f"{question.id}-{number}", question.text, answers=question.answers))
    return EvaluationSet(asked.name, tuple(more))


def approve(question: str, answer: str, right: Sequence[str]) -> bool:
    """Whatever the answer is: the experts' runs teach the form."""
    return True


def first_stage(base: Path, folder: Path, *, seed: int = 0, steps: int = 60, times: int = 8) -> Any:
    runs = build_runs(
        many_times(questions(), times),
        LetterRetriever(),
        ChanceExpert(seed),
        None,
        folder / "runs",
        judge=approve,
        max_turns=2,
        template="{question}",
        trained_pictures=PICTURES,
        golden_first=False,
        progress=False,
    )
    return train_agent(
        base,
        runs,
        folder / "sft",
        stage="sft",
        max_steps=steps,
        batch_size=32,
        micro_batch=32,
        lr=3e-3,
        seed=seed,
        save_steps=steps,
        recipe={**SMALL, "warmup_steps": 5},
    )


def second_stage(base: str | Path, folder: Path, *, seed: int = 0, steps: int = 60, **more: Any) -> Any:
    return train_agent(
        base,
        questions(),
        folder / "rl",
        retriever=LetterRetriever(),
        judge=match_judge,
        stage="rl",
        max_steps=steps,
        batch_size=4,
        micro_batch=32,
        lr=more.pop("lr", 1e-3),
        seed=seed,
        save_steps=steps,
        recipe={**SMALL, "samples": 8, "max_response": 30, **more.pop("recipe", {})},
        **more,
    )


def prove(
    base: Path, folder: Path, *, seed: int = 0, sft_steps: int = 60, steps: int = 60, **more: Any
) -> dict[str, Any]:
    """The rewards of every step, and how long it took."""
    started = time.monotonic()
    sft = first_stage(base, folder, seed=seed, steps=sft_steps)
    middle = time.monotonic()
    rl = second_stage(sft.checkpoint, folder, seed=seed, steps=steps, **more)
    rewards = [entry["rewards/trajectory/mean"] for entry in rl.history if "rewards/trajectory/mean" in entry]
    forms = [entry["rewards/form/mean"] for entry in rl.history if "rewards/form/mean" in entry]
    return {
        "rewards": rewards,
        "forms": forms,
        "sft_loss": [sft.losses[0][1], sft.losses[-1][1]],
        "seconds": [middle - started, time.monotonic() - middle],
        "checkpoint": rl.checkpoint,
    }


def rise(rewards: Sequence[float]) -> tuple[float, float, float]:
    """Mean of the first 20 steps and of the last 20, and the standard error of their difference."""
    first, last = rewards[:20], rewards[-20:]
    before, after = sum(first) / 20, sum(last) / 20
    spread = sum((each - before) ** 2 for each in first) / 19 + sum((each - after) ** 2 for each in last) / 19
    return before, after, (spread / 20) ** 0.5
