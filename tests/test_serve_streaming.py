"""Answers as they are written, clients that leave, and a server that is told to end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi  # noqa: F401  (what these tests need)
import httpx
import pytest
from fakes import PixelEmbedder
from web_server import HeldEmbedder, SteppedGenerator, library, running

from visrag_integrations import PageRetriever, QdrantPageStore, VisRAG
from visrag_integrations.cli import main
from visrag_integrations.errors import GenerationError
from visrag_integrations.servers.http import ServeSettings, create_app

ASKED = {"question": "Which violin?", "stream": True}


@pytest.fixture
def retriever() -> Iterator[PageRetriever]:
    with QdrantPageStore(":memory:") as store:
        yield library(store, PixelEmbedder())


@contextlib.contextmanager
def streaming(retriever: PageRetriever, generator: Any, **settings: Any) -> Iterator[Iterator[str]]:
    """The lines of a streamed answer as they come."""
    app = create_app(retriever, VisRAG(retriever, generator), ServeSettings(**settings))
    try:
        with (
            running(app, shutdown_seconds=5) as server,
            httpx.Client(timeout=30) as client,
            client.stream("POST", f"{server.url}/ask", json=ASKED) as answer,
        ):
            assert answer.status_code == 200
            yield answer.iter_lines()
    finally:
        generator.close()


def test_events_come_while_the_answer_is_written(retriever: PageRetriever) -> None:
    generator = SteppedGenerator("<answer>a vio", hold=True)
    with streaming(retriever, generator) as lines:
        names = []
        for line in lines:
            if line.startswith("event: "):
                names.append(line.removeprefix("event: "))
            if line.startswith("data: ") and names[-1] == "text":
                assert json.loads(line.removeprefix("data: ")) == {"section": "answer", "text": "a vio"}
                break  # the generator has not ended
        assert names == ["pages", "section", "text"]


def test_a_client_that_leaves_stops_the_generator(retriever: PageRetriever) -> None:
    generator = SteppedGenerator("<answer>", hold=True)
    with streaming(retriever, generator) as lines:
        next(lines)
        assert generator.started.wait(10)
        assert not generator.cancelled.is_set()
    assert generator.cancelled.wait(10)


def test_what_fails_while_it_is_streamed_is_the_last_event(retriever: PageRetriever) -> None:
    generator = SteppedGenerator("<answer>", error=GenerationError("the engine at /srv/models died"))
    with streaming(retriever, generator) as lines:
        told = list(lines)
    assert told[-3] == "event: error"
    assert json.loads(told[-2].removeprefix("data: "))["error"]["type"] == "generator_failed"
    assert "/srv/models" not in "".join(told)


def test_what_fails_before_it_has_a_status_of_its_own(retriever: PageRetriever) -> None:
    app = create_app(retriever, VisRAG(retriever, SteppedGenerator("x")))
    with running(app) as server:
        answer = httpx.post(f"{server.url}/ask", json={**ASKED, "filter": {"year": {"near": 1}}})
        assert answer.status_code == 422
        assert httpx.post(f"{server.url}/ask", json={**ASKED, "question": " "}).status_code == 422


def test_a_stream_says_that_it_is_alive_and_ends_in_time(retriever: PageRetriever) -> None:
    generator = SteppedGenerator("<answer>", hold=True)
    with streaming(retriever, generator, heartbeat_seconds=0.05, ask_seconds=0.5) as lines:
        told = list(lines)
    assert ": still here" in told
    assert json.loads(told[-2].removeprefix("data: "))["error"]["type"] == "timeout"
    assert generator.cancelled.wait(10)


def test_a_generator_without_async_is_streamed_too(retriever: PageRetriever) -> None:
    from fakes import ScriptedGenerator

    class Closable(ScriptedGenerator):
        def close(self) -> None:
            pass

    generator = Closable("<answer>a violin of wood</answer>")
    with streaming(retriever, generator) as lines:
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["answer"] == "a violin of wood"
    assert generator.closed


def test_requests_in_flight_are_finished_when_it_ends() -> None:
    embedder = HeldEmbedder()
    with QdrantPageStore(":memory:") as store:
        retriever = library(store, embedder)
        embedder.hold()
        answers: list[httpx.Response] = []
        with running(create_app(retriever)) as server:
            asking = threading.Thread(
                target=lambda: answers.append(httpx.post(f"{server.url}/search", json={"text": "violin"}, timeout=30))
            )
            asking.start()
            assert embedder.asked.wait(10)
            threading.Timer(0.3, embedder.go.set).start()
        asking.join()  # after the server has ended
    assert answers[0].status_code == 200
    assert answers[0].json()["pages"]


ENDED_IN_A_REQUEST = """
import asyncio, os, signal, sys, threading, urllib.request
from visrag_integrations.servers.web.running import RunSettings, address_of, listen, run

async def app(scope, receive, send):
    if scope["type"] == "http":
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(float(sys.argv[1]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

listening = listen("127.0.0.1", 0)
threading.Thread(target=urllib.request.urlopen, args=[address_of(listening)], daemon=True).start()
print(run(app, listening, RunSettings(shutdown_seconds=int(sys.argv[2]))))
"""


@pytest.mark.parametrize(("request_seconds", "shutdown_seconds", "cut_off"), [(0.1, 30, 0), (60, 1, 1)])
def test_it_knows_how_many_requests_it_cut_off(request_seconds: float, shutdown_seconds: int, cut_off: int) -> None:
    command = [sys.executable, "-c", ENDED_IN_A_REQUEST, str(request_seconds), str(shutdown_seconds)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert ended.stdout == f"{cut_off}\n", ended.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    with QdrantPageStore(tmp_path / "index") as store:
        from visrag_integrations import load_embedder

        library(store, load_embedder("ocr"), 4)
    command = [sys.executable, "-m", "visrag_integrations.cli", "serve", "--index", "index", "--port", "0"]
    options = ["--preset", "cpu", "--access-log", "--cors", "https://app.example"]
    environment = {**os.environ, "VISRAG_TOKEN": "a-token"}
    process = subprocess.Popen(
        [*command, *options], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stderr is not None
        assert process.stdout is not None
        line = next(line for line in process.stderr if "serving" in line)
        url = next(word for word in line.split() if word.startswith("http://"))
        assert httpx.post(f"{url}/search", json={"text": "violin"}).status_code == 401
        bearer = {"Authorization": "Bearer a-token"}
        found = httpx.post(f"{url}/search", json={"text": "violin"}, headers=bearer, timeout=30).json()["pages"]
        assert found[0]["source"] == "harbour-0.pdf"
        answer = httpx.post(f"{url}/ask", json={"question": "violin?"}, headers=bearer, timeout=30)
        assert answer.json()["pages"]
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(30) == 0, rest
        assert "every request was finished" in rest
        assert "POST /search 200" in rest
        assert "violin" not in rest  # queries are not logged
        assert process.stdout.read() == ""
    QdrantPageStore(tmp_path / "index").close()  # the folder is free again


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "there is no token"),
        (["--index", "missing"], "There is no index"),
        (["--token-file", "missing"], "cannot be read"),
        (["--port", "99999"], "from 1 to 65535"),
        (["--cors", "*"], "Name the origins"),
        (["--rate", "-1"], "above 0"),
    ],
)
def test_what_cannot_be_served_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VISRAG_TOKEN", raising=False)
    assert main(["serve", *options]) == 2
    assert said in capsys.readouterr().err
