"""The generator of OpenAI-compatible servers, against a real HTTP server that answers what a test scripts."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import openai
import pytest
from PIL import Image
from scripted_server import serving

from visrag_integrations import Page, load_generator
from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.generation.evisrag import evisrag_messages
from visrag_integrations.generation.openai import OpenAIGenerator
from visrag_integrations.interfaces import Generator
from visrag_integrations.types import Conversation, GenerationSettings, Message, Usage

ANSWER = "<observe>o</observe>\n<evidence>\n[1]: e\n</evidence>\n<think>t</think>\n<answer>12</answer>"


class Server:
    """Answers as scripted: each reply is a function of the handler and the request."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.replies: list[Callable[[Any, dict[str, Any]], None]] = []
        self.model = {"id": "tiny", "object": "model", "created": 0, "owned_by": "vllm", "max_model_len": 4096}
        self.others: list[dict[str, Any]] = []  # more models
        self.lock = threading.Lock()
        self.active = self.most_active = 0
        script = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                assert self.path == "/v1/models"
                send(self, {"object": "list", "data": [script.model, *script.others]})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with script.lock:
                    script.requests.append(request)
                    script.times.append(time.monotonic())
                    script.active += 1
                    script.most_active = max(script.most_active, script.active)
                    reply = script.replies.pop(0) if script.replies else echo
                try:
                    reply(self, request)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with script.lock:
                        script.active -= 1

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def send(handler: Any, body: Any, status: int = 200, **headers: str) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def completion(text: str, reason: str = "stop", logprobs: tuple[float, ...] = (-0.5, -1.5)) -> dict[str, Any]:
    tokens = [{"token": "t", "logprob": value, "bytes": None, "top_logprobs": []} for value in logprobs]
    choice = {"index": 0, "finish_reason": reason, "logprobs": {"content": tokens}}
    return {
        **{"id": "1", "object": "chat.completion", "created": 0, "model": "tiny"},
        "choices": [{**choice, "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": len(logprobs), "total_tokens": 7 + len(logprobs)},
    }


def echo(handler: Any, request: dict[str, Any]) -> None:
    """The last text of the request."""
    texts = [part["text"] for part in request["messages"][-1]["content"] if part["type"] == "text"]
    send(handler, completion(texts[-1]))


def failing(status: int, message: str = "no", **headers: str) -> Callable[[Any, dict[str, Any]], None]:
    return lambda handler, request: send(handler, {"error": {"message": message}}, status, **headers)


def streaming(*texts: str, ends: bool = True, pause: float = 0.0) -> Callable[[Any, dict[str, Any]], None]:
    def reply(handler: Any, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "tiny"}
        for text in texts:
            logprobs = {"content": [{"token": text, "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
            choice = {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}
            write(handler, {**head, "choices": [choice]})
            time.sleep(pause)
        if ends:
            write(handler, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
            usage = {"prompt_tokens": 3, "completion_tokens": len(texts), "total_tokens": 3 + len(texts)}
            write(handler, {**head, "choices": [], "usage": usage})
            handler.wfile.write(b"data: [DONE]\n\n")

    def write(handler: Any, chunk: dict[str, Any]) -> None:
        handler.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        handler.wfile.flush()

    return reply


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def generator(server: Server) -> Iterator[OpenAIGenerator]:
    made = OpenAIGenerator(server.url, max_retries=2)
    yield made
    made.close()


def asking(text: str) -> Conversation:
    return (Message((text,)),)


def shown_page(width: int = 60, height: int = 40, number: int = 1) -> Page:
    return Page.from_image(Image.new("RGB", (width, height), "red"), doc_id="d", number=number)


def picture_in(part: dict[str, Any]) -> Image.Image:
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_batch_comes_back_in_order(server: Server, generator: OpenAIGenerator) -> None:
    assert isinstance(generator, Generator)
    written = generator.generate([asking(str(i)) for i in range(12)])
    assert [one.text for one in written] == [str(i) for i in range(12)]
    assert written[0].logprob == pytest.approx(-1.0)  # the mean of -0.5 and -1.5
    assert written[0].usage == Usage(7, 2)
    assert written[0].finish_reason == "stop"
    assert generator.name == "tiny"
    assert generator.generate([]) == []


def test_many_requests_are_in_flight_at_once_but_not_too_many(server: Server) -> None:
    def slow(handler: Any, request: dict[str, Any]) -> None:
        time.sleep(0.2)
        echo(handler, request)

    server.replies = [slow] * 8
    generator = OpenAIGenerator(server.url, max_concurrency=4)
    generator.generate([asking("q")] * 8)
    generator.close()
    assert server.most_active == 4


def test_requests_say_what_was_published(server: Server, generator: OpenAIGenerator) -> None:
    generator.generate([evisrag_messages("How many?", [shown_page(), shown_page(30, 90, 2)])])
    (request,) = server.requests
    assert request["model"] == "tiny"
    assert (request["max_tokens"], request["temperature"], request["repetition_penalty"]) == (2048, 0.1, 1.05)
    assert request["logprobs"] is True
    (message,) = request["messages"]
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["text", "image_url", "image_url"]
    assert message["content"][0]["text"].endswith("Question: How many?\n")
    assert [picture_in(part).size for part in message["content"][1:]] == [(60, 40), (30, 90)]


def test_other_servers_get_only_what_they_know(server: Server) -> None:
    server.model = {"id": "tiny", "object": "model", "created": 0, "owned_by": "someone"}
    generator = OpenAIGenerator(server.url, logprobs=False)
    generator.generate([asking("q")], GenerationSettings(stop=("END",), seed=3, json_schema={"type": "object"}))
    with pytest.raises(SettingError, match="kind="):
        generator.generate([asking("q")], GenerationSettings(guided=True))
    generator.close()
    (request,) = server.requests
    assert "repetition_penalty" not in request
    assert "logprobs" not in request
    assert (request["stop"], request["seed"]) == (["END"], 3)
    assert request["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_pictures_are_fitted_to_the_servers_context(server: Server, generator: OpenAIGenerator) -> None:
    pages = [shown_page(1600, 2000, number) for number in (1, 2, 3)]  # about 4000 tokens each; 4096 is the context
    generator.generate([(Message(("q", *pages)),)], GenerationSettings(max_tokens=500))
    sizes = [picture_in(part).size for part in server.requests[0]["messages"][0]["content"][1:]]
    tokens = [width * height // 28**2 for width, height in sizes]
    assert tokens[0] > tokens[1] == tokens[2] > 500
    assert 3000 < sum(tokens) <= 4096 - 500 - 1


def test_too_many_pictures_are_refused_before_anything_is_sent(server: Server) -> None:
    generator = OpenAIGenerator(server.url, max_images=2)
    with pytest.raises(GenerationError, match=r"3 pictures .* at most 2"):
        generator.generate([(Message(("q", *[shown_page()] * 3)),)])
    generator.close()
    assert server.requests == []


def test_busy_and_failing_servers_are_asked_again(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [failing(429, Retry_After="0.05"), failing(503)]
    assert generator.generate([asking("q")])[0].text == "q"
    assert len(server.requests) == 3
    assert server.times[2] - server.times[1] > 0.2  # a pause of its own where the server names none


@pytest.mark.parametrize(
    ("status", "said", "advice"),
    [
        (429, "quota", "max_retries"),
        (500, "boom", "log"),
        (401, "bad key", "OPENAI_API_KEY"),
        (404, "no model", "model="),
        (400, "At most 2 image(s) may be provided", "fewer pages"),
    ],
)
def test_errors_say_what_to_do(server: Server, status: int, said: str, advice: str) -> None:
    server.replies = [failing(status, said)]
    generator = OpenAIGenerator(server.url, max_retries=0)
    with pytest.raises(GenerationError, match=advice) as raised:
        generator.generate([asking("q")])
    generator.close()
    assert said in str(raised.value)
    assert server.url in str(raised.value)


def test_one_failure_stops_the_batch(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [failing(400, "no")]
    with pytest.raises(GenerationError, match="refuses"):
        generator.generate([asking("a"), asking("b")])


def test_a_server_that_is_not_there(server: Server) -> None:
    server.close()
    generator = OpenAIGenerator(server.url, max_retries=0)
    with pytest.raises(GenerationError, match="cannot be reached"):
        generator.generate([asking("q")])
    generator.close()


def test_a_slow_server_is_given_up(server: Server) -> None:
    server.replies = [lambda handler, request: time.sleep(1)]
    generator = OpenAIGenerator(server.url, max_retries=0, timeout=0.2)
    with pytest.raises(GenerationError, match="timeout="):
        generator.generate([asking("q")])
    generator.close()


def test_a_stream_gives_pieces_and_ends_with_how_it_went(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [streaming("on", "e t", "wo")]
    pieces = list(generator.stream(asking("q")))
    assert [piece.text for piece in pieces] == ["on", "e t", "wo", ""]
    assert (pieces[-1].logprob, pieces[-1].usage, pieces[-1].finish_reason) == (-1.0, Usage(3, 3), "length")
    assert all(piece.finish_reason is None for piece in pieces[:-1])


def test_closing_a_stream_hangs_up(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [streaming(*"abcdefgh" * 200, pause=0.02)]
    pieces = generator.stream(asking("q"))
    assert next(pieces).text == "a"
    pieces.close()
    deadline = time.monotonic() + 3
    while server.active and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.active == 0  # it noticed, long before its 32 seconds were over


@pytest.mark.parametrize("ends", ["mid-stream", "before the first"])
def test_a_stream_that_breaks_off_is_an_error(server: Server, generator: OpenAIGenerator, ends: str) -> None:
    server.replies = [streaming(*(["one"] if ends == "mid-stream" else []), ends=False)]
    with pytest.raises(GenerationError, match="broke off"):
        list(generator.stream(asking("q")))


async def test_async_twins(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [echo, echo, streaming("a", "b")]
    written = await generator.agenerate([asking("1"), asking("2")])
    assert sorted(one.text for one in written) == ["1", "2"]
    assert [piece.text async for piece in generator.astream(asking("q"))] == ["a", "b", ""]


async def test_cancelling_a_task_hangs_up(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [streaming(*"abcdefgh" * 200, pause=0.02)]

    async def read() -> None:
        async for _ in generator.astream(asking("q")):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(150):
        if not server.active:
            break
        await asyncio.sleep(0.02)
    assert server.active == 0


def test_guided_answers_are_held_to_the_form(server: Server, generator: OpenAIGenerator) -> None:
    server.replies = [lambda handler, request: send(handler, completion(ANSWER))]
    conversation = evisrag_messages("q", [shown_page()])
    (written,) = generator.generate([conversation], GenerationSettings(guided=True))
    (request,) = server.requests
    assert written.text == ANSWER
    assert request["structured_outputs"]["regex"].startswith("<observe>")
    assert request["max_tokens"] < 2048


def test_guided_answers_that_are_cut_off_are_closed(server: Server, generator: OpenAIGenerator) -> None:
    begun, rest = ANSWER[:40], ANSWER[40:]
    server.replies = [
        lambda handler, request: send(handler, completion(begun, "length", (-1.0,))),
        lambda handler, request: send(handler, completion(rest, "stop", (-2.0, -3.0))),
    ]
    settings = GenerationSettings(guided=True, max_tokens=300)
    (written,) = generator.generate([evisrag_messages("q", [shown_page()])], settings)
    assert written.text == ANSWER
    assert (written.logprob, written.usage, written.finish_reason) == (-2.0, Usage(7, 3), "stop")
    first, second = server.requests
    assert second["messages"][:-1] == first["messages"]
    assert second["messages"][-1] == {"role": "assistant", "content": begun}
    assert (second["continue_final_message"], second["add_generation_prompt"]) == (True, False)
    assert first["max_tokens"] + second["max_tokens"] == 300


def test_guided_needs_pages_and_room(generator: OpenAIGenerator) -> None:
    with pytest.raises(SettingError, match="shows none"):
        generator.generate([asking("q")], GenerationSettings(guided=True))
    with pytest.raises(SettingError, match="max_tokens is 20"):
        generator.generate([evisrag_messages("q", [shown_page()])], GenerationSettings(guided=True, max_tokens=20))


def test_chat_completions_requests_are_passed_on(server: Server, generator: OpenAIGenerator) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "q"}]}]
    server.replies = [echo, streaming("a", "b")]
    assert generator.chat({"messages": messages, "tools": []})["choices"][0]["message"]["content"] == "q"
    chunks = list(generator.stream_chat({"messages": messages}))
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "ab"
    assert server.requests[0]["tools"] == []


def test_with_model_asks_the_same_server(server: Server, generator: OpenAIGenerator) -> None:
    other = generator.with_model("larger")
    other.generate([asking("q")])
    generator.generate([asking("q")])
    assert [request["model"] for request in server.requests] == ["larger", "tiny"]
    assert (other.name, generator.name) == ("larger", "tiny")


def test_clients_of_your_own_and_bare_urls(server: Server) -> None:
    with openai.OpenAI(base_url=server.url, api_key="k") as client:
        mine = OpenAIGenerator(client)
        assert mine.generate([asking("q")])[0].text == "q"
        mine.close()
    loaded = load_generator(server.url.removesuffix("/v1"), model="named")
    assert loaded.generate([asking("q")])[0].text == "q"
    assert server.requests[-1]["model"] == "named"
    loaded.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", [{"kind": "gpt"}, {"max_concurrency": 0}, {"max_retries": -1}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        OpenAIGenerator("http://localhost:1/v1", **wrong)


def card(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "system", **more}


def test_of_several_models_one_must_be_named(server: Server, generator: OpenAIGenerator) -> None:
    server.model = card("text-embedding-3-small")
    server.others = [card("gpt-4o"), card("gpt-\x1b[2J")]
    said = r"has 3 models: text-embedding-3-small, gpt-4o, gpt-\\x1b\[2J\. Name one: --model NAME"
    with pytest.raises(SettingError, match=said):
        generator.generate([asking("q")])
    with pytest.raises(SettingError, match=said):
        generator.check_model()
    assert not server.requests
    named = OpenAIGenerator(server.url, model="gpt-4o")
    named.check_model()
    assert named.generate([asking("q")])[0].text == "q"
    named.close()
    assert [request["model"] for request in server.requests] == ["gpt-4o"]


def test_a_long_list_is_cut(server: Server, generator: OpenAIGenerator) -> None:
    server.others = [card(f"m{number}") for number in range(99)]
    with pytest.raises(SettingError, match=r"has 100 models: tiny, m0, .*, m18 and 80 more\. Name one"):
        generator.generate([asking("q")])


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        ({"root": "/weights"}, {"root": "/weights"}, "tiny"),  # vLLM's --served-model-name tiny other
        ({"root": "/weights"}, {"root": "/adapter", "parent": "tiny"}, None),  # a LoRA adapter is another model
        ({"root": "/weights"}, {"root": "/weights", "parent": "tiny"}, None),
        ({"root": None}, {"root": None}, None),
        ({}, {}, None),
    ],
)
def test_names_of_one_model_are_one(
    server: Server, generator: OpenAIGenerator, first: dict[str, Any], second: dict[str, Any], asked: str | None
) -> None:
    server.model = card("tiny", **first)
    server.others = [card("other", **second)]
    if asked is None:
        with pytest.raises(SettingError, match="has 2 models: tiny, other"):
            generator.check_model()
        return
    generator.check_model()
    generator.generate([asking("q")])
    assert [request["model"] for request in server.requests] == [asked]


def test_a_server_that_is_not_there_yet_is_no_error_of_the_check(server: Server) -> None:
    server.close()
    absent = OpenAIGenerator(server.url)
    absent.check_model()
    absent.close()


def test_it_is_said_that_a_server_is_asked_again(
    server: Server, generator: OpenAIGenerator, caplog: pytest.LogCaptureFixture
) -> None:
    generator.generate([asking("q")])
    assert not caplog.records
    server.replies = [failing(503), failing(503), echo]
    assert generator.generate([asking("q")])[0].text == "q"
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]  # once, of two
    assert said == f"{server.url}/chat/completions does not answer, or is busy; trying again"


def test_a_model_behind_the_address_is_the_command_lines_way() -> None:
    """The server's only model would answer in its place, and nobody would see it."""
    with serving() as (url, seen):
        generator = load_generator(f"{url}#another")
        with pytest.raises(SettingError, match=r"model='another'"):
            generator.generate([(Message(("Who?",)),)])
        generator.close()
    assert not seen
