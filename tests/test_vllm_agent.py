"""The agent on a real vLLM server (its CPU build): a random model's rubbish, a scripted whole run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import ScriptedGenerator, ScriptedRetriever
from PIL import Image
from test_vllm_server import CONTEXT, IMAGES, Server
from tiny_models import build_qwen2_5_vl

from visrag_integrations import Page, ScoredPage
from visrag_integrations.agent import Finish, VRAGAgent
from visrag_integrations.agent.episode import Episode, Find, Look, Write
from visrag_integrations.agent.problems import PROBLEMS
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.generation.vllm import VLLMGenerator
from visrag_integrations.types import GenerationSettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
HITS = tuple(
    ScoredPage(Page("d", number, f"Page {number}.", picture=Image.new("RGB", (200, 280), colour)), 1 / number)
    for number, colour in enumerate(["red", "green", "blue", "white"], start=1)
)
CONTEXT_OF_TWO = 2200
"""Tokens that hold the prompt, two pages, and the answer, but no third page and turn."""
SETTINGS = GenerationSettings(temperature=1.0, max_tokens=48, seed=1)
LOOK = "<think>I look.</think><search>boxes</search>"
CLOSER = "<think>Small.</think><bbox>[100, 100, 300, 300]</bbox>"
ANSWER = "<think>I see.</think><answer>12</answer>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    running = Server(build_qwen2_5_vl(folder / "checkpoint"), folder / "log.txt")
    try:
        running.wait()
        yield running
    finally:
        running.kill()


@pytest.fixture
def generator(server: Server) -> Iterator[OpenAIGenerator]:
    made = OpenAIGenerator(server.url, max_retries=0, max_images=IMAGES)
    yield made
    made.close()


def check_rubbish(trace: Any) -> None:
    """It ended by a budget, with every turn counted as a problem."""
    assert isinstance(trace.steps[-1], Finish)
    assert trace.reason in {"turns", "context"}
    assert 2 <= len(trace.turns) <= 4
    assert set(trace.problem_counts) <= set(PROBLEMS)
    assert trace.problem_counts["no_answer"] == 1
    assert sum(trace.problem_counts.values()) >= len(trace.turns)
    assert trace.usage.output_tokens > 0
    assert not trace.answer.sufficient
    assert trace._repr_html_()


def test_a_model_that_writes_rubbish_ends_by_budget(generator: OpenAIGenerator) -> None:
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator, 4, settings=SETTINGS)
    check_rubbish(agent.run("How many boxes?"))
    for trace in agent.run_many(["How many boxes?", "How many bottles?"]):
        check_rubbish(trace)


async def test_async_runs_end_too(generator: OpenAIGenerator) -> None:
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator, 4, settings=SETTINGS)
    for trace in await agent.arun_many(["How many boxes?", "How many bottles?"]):
        check_rubbish(trace)


def test_the_server_reads_every_conversation_of_a_scripted_run(generator: OpenAIGenerator) -> None:
    """The scripted model decides; the server is given each conversation, with its pages and crops, and writes on."""
    scripted = ScriptedGenerator(LOOK, CLOSER, LOOK, ANSWER)
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator, settings=SETTINGS)
    (episode,) = agent.begin(["How many boxes?"])
    assert isinstance(episode, Episode)
    read: list[int] = []
    while episode.waiting is not None:
        request = episode.waiting
        if isinstance(request, Write):
            (real,) = agent.perform([request])
            assert real.usage is not None
            read.append(real.usage.input_tokens)
            (written,) = scripted.generate([request.conversation])
            episode.tell(written)
        else:
            assert isinstance(request, (Find, Look))
            episode.tell(agent.perform([request])[0])
    assert episode.trace.answer.text == "12"
    assert len(read) == 4
    told = [step.observation for step in episode.trace if step.observation.shown][:3]
    for observed, before, after, said in zip(told, read[:-1], read[1:], (LOOK, CLOSER, LOOK), strict=True):
        (shown,) = observed.shown
        cells = shown.size[0] * shown.size[1] // 28**2
        # one byte a token: what was written and told, the marks of two turns, and one for each cell of the picture
        marks = after - before - cells - len(said) - len(observed.text)
        assert 0 < marks < 60
    assert read[-1] < CONTEXT


def test_the_context_is_never_overrun(server: Server) -> None:
    """The model always searches; the context ends the run before it is full, with the pictures as they were."""
    generator = OpenAIGenerator(server.url, max_retries=0, max_images=IMAGES, context_length=CONTEXT_OF_TWO)
    scripted = ScriptedGenerator(*[LOOK] * 9)
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator, settings=SETTINGS)
    (episode,) = agent.begin(["How many boxes?"])
    try:
        while (request := episode.waiting) is not None:
            (done,) = agent.perform([request])
            if isinstance(request, Write):
                (text,) = scripted.generate([request.conversation])
                done = type(done)(text.text, usage=done.usage)
            episode.tell(done)
    finally:
        generator.close()
    assert episode.trace.reason == "context"
    assert len(episode.trace.turns) == 3
    for turn in episode.trace.turns:
        assert turn.usage is not None
        assert turn.usage.input_tokens + 48 <= CONTEXT_OF_TWO


@pytest.mark.filterwarnings("default")  # vLLM's own warnings
def test_a_rubbish_model_in_this_process(tmp_path_factory: pytest.TempPathFactory) -> None:
    checkpoint = build_qwen2_5_vl(tmp_path_factory.mktemp("engine") / "checkpoint")
    generator = VLLMGenerator(
        str(checkpoint), context_length=CONTEXT, max_images=IMAGES, dtype="float32", enforce_eager=True
    )
    try:
        assert generator.context_length == CONTEXT
        agent = VRAGAgent(ScriptedRetriever(*HITS), generator, 3, settings=SETTINGS)
        for trace in agent.run_many(["How many boxes?", "How many bottles?"]):
            check_rubbish(trace)
        assert generator.context_length == CONTEXT
    finally:
        generator.close()
