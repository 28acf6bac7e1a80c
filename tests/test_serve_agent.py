"""Answers by the agent: over HTTP, whole and as events, and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from drawing import draw_pdf
from fakes import PixelEmbedder
from web_server import Running, library, running

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG
from visrag_integrations.agent import Recording
from visrag_integrations.cli import main
from visrag_integrations.servers.http import create_app
from visrag_integrations.types import Generation

TEXTS = [
    "<think>I look for the violin.</think><search>violin</search>",
    "<think>Closer.</think><bbox>[20, 20, 200, 240]</bbox>",
    "<think>There it is.</think><answer>violin page 1</answer>",
]


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[PageRetriever]:
    with QdrantPageStore(tmp_path / "index") as store:
        yield library(store, PixelEmbedder())


@pytest.fixture
def server(retriever: PageRetriever) -> Iterator[Running]:
    rag = VisRAG(retriever, Recording(list(map(Generation, TEXTS))))
    with running(create_app(retriever, rag)) as one:
        yield one


def test_a_whole_answer_has_its_steps(server: Running) -> None:
    said = (
        httpx.post(f"{server.url}/ask", json={"question": "Which?", "agent": True}, timeout=60)
        .raise_for_status()
        .json()
    )
    assert (said["answer"], said["sufficient"], said["reason"]) == ("violin page 1", True, "answered")
    assert [step["kind"] for step in said["steps"]] == ["thought", "search", "thought", "crop", "thought", "finish"]
    searched = said["steps"][1]
    assert searched["text"] == "violin"
    (page,) = searched["shown"]
    assert page["region"] == [0, 0, 1, 1]
    assert httpx.get(page["image"]).headers["content-type"] == "image/jpeg"
    assert said["steps"][3]["shown"][0]["region"] != [0, 0, 1, 1]
    assert page["id"] in [hit["id"] for hit in said["pages"]]
    assert "/srv/secret" not in json.dumps(said)


def events_of(server: Running, **body: Any) -> list[tuple[str, Any]]:
    asked = {"question": "Which?", "stream": True, **body}
    said = httpx.post(f"{server.url}/ask", json=asked, timeout=60).raise_for_status().text
    events = []
    for block in said.strip().split("\n\n"):
        name, data = block.split("\n", 1)
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_steps_come_as_events(server: Running) -> None:
    events = events_of(server, agent=True)
    assert [name for name, _ in events] == [*["step"] * 6, "answer"]
    whole = events[-1][1]
    assert [data for _, data in events[:-1]] == whole["steps"]
    assert whole["answer"] == "violin page 1"


def test_without_the_agent_nothing_is_new(server: Running, retriever: PageRetriever) -> None:
    said = httpx.post(f"{server.url}/ask", json={"question": "Which?"}, timeout=60).raise_for_status().json()
    assert "steps" not in said
    assert "reason" not in said


def test_a_filter_holds_for_the_agent(server: Running) -> None:
    asked = {"question": "Which?", "agent": True, "filter": {"year": 1066}}
    said = httpx.post(f"{server.url}/ask", json=asked, timeout=60).raise_for_status().json()
    assert said["pages"] == []
    assert all(step["shown"] == [] for step in said["steps"])
    refused = httpx.post(f"{server.url}/ask", json={**asked, "filter": {"year": {"around": 1}}}, timeout=60)
    assert refused.status_code == 422


def test_the_command_tells_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pdf = draw_pdf(tmp_path / "boats.pdf", ["The harbour holds forty sailing boats.", "Bread takes an hour."])
    index = ["--index", str(tmp_path / "index"), "--preset", "cpu"]
    html = tmp_path / "run.html"
    assert (
        main(["ask", "How many sailing boats are in the harbour?", str(pdf), "--agent", "--html", str(html), *index])
        == 0
    )
    said = capsys.readouterr()
    assert "turn 1: searches 'How many sailing boats are in the harbour?', and sees" in said.err
    assert "boats.pdf, page 1" in said.err
    assert "forty sailing boats" in said.out
    assert "forty sailing boats" in html.read_text(encoding="utf-8")
    assert main(["ask", "How many sailing boats are in the harbour?", "--agent", "--turns", "3", "--json", *index]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reason"] == "answered"
    assert [step["kind"] for step in found["steps"]][-1] == "finish"
