"""The agent through the real client of OpenAI-compatible servers: what it sends, and a whole run."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import ScriptedRetriever
from PIL import Image
from scripted_server import serving

from visrag_integrations import Page, ScoredPage
from visrag_integrations.agent import Crop, Finish, Search, Thought, VRAGAgent
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.generation.vrag import STOP, build_prompt
from visrag_integrations.types import Usage

SCRIPT = (
    "<think>I look.</think><search> totals </search> and the result is <answer>made up</answer>",
    "<think>Small.</think><bbox>[100, 100, 200, 200]</bbox>",
    "<think>I see.</think><answer> 42 </answer>",
)
HITS = tuple(
    ScoredPage(Page("d", number, picture=Image.new("RGB", (560, 504), colour)), 0.5)
    for number, colour in enumerate(["red", "green"], start=1)
)


@pytest.fixture
def served() -> Iterator[tuple[OpenAIGenerator, list[dict[str, Any]]]]:
    with serving(SCRIPT) as (url, seen):
        generator = OpenAIGenerator(url, max_retries=0)
        yield generator, seen
        generator.close()


def test_a_whole_run(served: tuple[OpenAIGenerator, list[dict[str, Any]]]) -> None:
    generator, seen = served
    trace = VRAGAgent(ScriptedRetriever(*HITS), generator).run("How much?")
    assert [type(step) for step in trace] == [Thought, Search, Thought, Crop, Thought, Finish]
    assert (trace.answer.text, trace.reason, trace.answer.problems) == ("42", "answered", ())
    assert trace.usage == Usage(27, 15)  # 9 and 5 a turn, as the server says
    assert [request["stop"] for request in seen] == [list(STOP)] * 3
    assert [request["max_tokens"] for request in seen] == [1024] * 3
    *_, last = seen
    assert [message["role"] for message in last["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    first, wrote, page, _, closer = (message["content"] for message in last["messages"])
    assert first == [{"type": "text", "text": build_prompt("How much?")}]
    assert wrote[0]["text"] == "<think>I look.</think><search> totals </search>"  # with the tag that the stop took away
    for content, shown in ((page, trace.shown[0]), (closer, trace.shown[1])):
        (part,) = content
        sent = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
        assert shown.picture is not None
        assert (sent.size, sent.tobytes()) == (shown.size, shown.picture.tobytes())  # what was counted is what was sent


async def test_many_runs_at_once(served: tuple[OpenAIGenerator, list[dict[str, Any]]]) -> None:
    generator, seen = served
    agent = VRAGAgent(ScriptedRetriever(*HITS), generator)
    one = await agent.arun("How much?")
    many = await agent.arun_many(["How much?"] * 8)
    assert [trace.steps for trace in many] == [one.steps] * 8
    assert len(seen) == 3 + 24
    assert agent.run_many(["How much?"] * 2) == [one, one]
