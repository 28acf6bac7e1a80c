"""The agent on the transformers generator with a tiny random Qwen2.5-VL: conversations of many turns with pictures."""

from __future__ import annotations

import pytest
from fakes import ScriptedGenerator, ScriptedRetriever
from PIL import Image
from tiny_models import shared_qwen2_5_vl

from visrag_integrations import Page, ScoredPage
from visrag_integrations.agent import Finish, VRAGAgent
from visrag_integrations.agent.episode import Write
from visrag_integrations.generation.transformers import TransformersGenerator
from visrag_integrations.types import GenerationSettings

HITS = tuple(
    ScoredPage(Page("d", number, picture=Image.new("RGB", (392, 532), colour)), 1 / number)
    for number, colour in enumerate(["red", "green"], start=1)
)
TURNS = (
    "<think>I look.</think><search>boxes</search>",
    "<think>Small.</think><bbox>[100, 100, 300, 300]</bbox>",
    "<think>I see.</think><answer>12</answer>",
)


@pytest.fixture(scope="module")
def generator() -> TransformersGenerator:
    return TransformersGenerator(str(shared_qwen2_5_vl()), device="cpu", max_images=3)


def test_a_model_that_writes_rubbish_ends_by_budget(generator: TransformersGenerator) -> None:
    settings = GenerationSettings(temperature=0.0, max_tokens=12)
    trace = VRAGAgent(ScriptedRetriever(*HITS), generator, 3, settings=settings).run("How many boxes?")
    assert isinstance(trace.steps[-1], Finish)
    assert (trace.reason, len(trace.turns)) == ("turns", 3)
    assert trace.problem_counts["no_answer"] == 1
    assert sum(trace.problem_counts.values()) == 3
    assert trace.usage.output_tokens == 36


def test_the_model_reads_the_pictures_with_the_pixels_that_boxes_are_counted_in(
    generator: TransformersGenerator,
) -> None:
    """One byte a token here, and one token for each cell of 28 x 28 pixels: the sums must agree."""
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator, settings=GenerationSettings(temperature=0.0, max_tokens=1))
    (episode,) = agent.begin(["How many boxes?"])
    scripted, read = ScriptedGenerator(*TURNS), []
    while (request := episode.waiting) is not None:
        (done,) = agent.perform([request])
        if isinstance(request, Write):
            read.append(done.usage.input_tokens)
            (done,) = scripted.generate([request.conversation])
        episode.tell(done)
    assert episode.trace.answer.text == "12"
    page, crop = episode.trace.shown
    assert page.size == (392, 532)  # 14 x 19 cells: within the bounds, so as it is
    marks = [
        after - before - len(said) - shown.size[0] * shown.size[1] // 28**2
        for before, after, said, shown in zip(read[:-1], read[1:], TURNS[:2], (page, crop), strict=True)
    ]
    assert marks[0] == marks[1]  # the marks of two turns, the same each time
    assert 0 < marks[0] < 60
