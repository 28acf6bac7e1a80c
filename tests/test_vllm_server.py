"""The generator of OpenAI-compatible servers on a real vLLM server (its CPU build) with a tiny random Qwen2.5-VL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import build_qwen2_5_vl

from visrag_integrations import Page
from visrag_integrations.errors import GenerationError
from visrag_integrations.generation.evisrag import evisrag_messages, parse_evidence
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.types import Conversation, GenerationSettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]
CONTEXT, IMAGES = 6144, 3


class Server:
    """A vLLM server in a process group of its own."""

    def __init__(self, checkpoint: Path, log: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}/v1", log
        arguments = [
            *("--model", str(checkpoint), "--served-model-name", "tiny", "--port", str(port), "--host", "127.0.0.1"),
            *("--max-num-batched-tokens", str(CONTEXT)),  # vLLM's CPU build fails on a seed where prompts are cut up
            *("--dtype", "float32", "--max-model-len", str(CONTEXT), "--enforce-eager", "--seed", "0"),
            *("--limit-mm-per-prompt", f'{{"image": {IMAGES}, "video": 0}}'),
            *options,
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 500
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-4000:]
            try:
                urllib.request.urlopen(self.url + "/models", timeout=5).close()
                return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(self.log.read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


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
    made = OpenAIGenerator(server.url, max_retries=0)
    yield made
    made.close()


def question(pages: int = 3, size: tuple[int, int] = (200, 280)) -> Conversation:
    shown = [
        Page.from_image(Image.new("RGB", size, colour), doc_id="d", number=number)
        for number, colour in enumerate(["red", "green", "blue", "white"][:pages], start=1)
    ]
    return evisrag_messages("How many packages?", shown)


GREEDY = GenerationSettings(temperature=0.0, max_tokens=24)


def test_whole_and_streamed_texts_are_the_same(generator: OpenAIGenerator) -> None:
    (whole,) = generator.generate([question()], GREEDY)
    pieces = list(generator.stream(question(), GREEDY))
    assert "".join(piece.text for piece in pieces) == whole.text != ""
    assert len(pieces) > 3
    assert pieces[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.output_tokens == 24
    assert whole.usage.input_tokens > 2000  # one byte a token, and three pictures
    assert whole.finish_reason == "length"
    assert whole.logprob is not None
    assert whole.logprob < 0
    assert pieces[-1].logprob == pytest.approx(whole.logprob, abs=1e-3)
    assert generator.name == "tiny"


def test_guided_answers_parse_without_problems(generator: OpenAIGenerator) -> None:
    settings = GenerationSettings(guided=True, temperature=1.0, max_tokens=400, seed=1)
    for text in (
        generator.generate([question()], settings)[0].text,
        "".join(piece.text for piece in generator.stream(question(), settings)),
    ):
        answer = parse_evidence(text, [part for part in question()[0].content if isinstance(part, Page)])
        assert answer.problems == ()
        assert [entry.page_index for entry in answer.evidence] == [1, 2, 3]
        assert answer.text
        assert answer.thinking


def test_large_pages_are_fitted_to_the_context(generator: OpenAIGenerator) -> None:
    (written,) = generator.generate([question(3, (1600, 2200))], GREEDY)
    assert written.usage is not None
    assert written.usage.input_tokens < CONTEXT  # as they are, they would take 3 x 1280 tokens beside the text
    assert written.usage.input_tokens - 2000 > 1280 + 2 * 400


def test_more_pictures_than_the_server_takes(generator: OpenAIGenerator) -> None:
    with pytest.raises(GenerationError, match=r"(?s)fewer pages.*limit-mm-per-prompt.*It said: .*3"):
        generator.generate([question(4)], GREEDY)


def test_a_schema_is_followed(generator: OpenAIGenerator) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    (written,) = generator.generate([question(1)], GenerationSettings(json_schema=schema, max_tokens=60, seed=1))
    assert written.text.lstrip().startswith("{")


def test_a_server_that_is_killed_in_the_middle(server: Server, generator: OpenAIGenerator) -> None:
    """It is stopped first, so that it surely has not answered when it dies."""
    os.killpg(server.process.pid, signal.SIGSTOP)
    threading.Timer(1.0, server.kill).start()
    with pytest.raises(GenerationError, match=r"broke off.*log|hung up.*server runs"):
        list(generator.stream(question(), GenerationSettings(temperature=0.0, max_tokens=3000)))
    with pytest.raises(GenerationError, match="cannot be reached"):
        generator.generate([question()], GREEDY)
