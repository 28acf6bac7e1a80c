"""An OpenAI-compatible chat completions server with rules in place of a model: it does what it is asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = "Hello, I am a scripted model."


def complete(request: dict[str, Any], script: Sequence[str] = ()) -> dict[str, Any]:
    """The answer to a chat completions request: a tool call, JSON of the schema, or a text, ended by its stop strings.

    The text is that of the script which comes next in the conversation; the same one always where there is none.
    """
    place = sum(message["role"] == "assistant" for message in request["messages"])
    text = script[place] if script else TEXT
    for stop in request.get("stop") or ():
        text = text.split(stop)[0]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    reason = "stop"
    schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
    last = request["messages"][-1]
    must = request.get("tool_choice") not in (None, "none", "auto")
    if request.get("tools") and (must or last["role"] == "user"):
        message, reason = {"role": "assistant", "content": "", "tool_calls": [_call(request, last)]}, "tool_calls"
    elif (request.get("response_format") or {}).get("type") == "json_object":  # keys as the question quotes them
        message["content"] = json.dumps(dict.fromkeys(re.findall(r"'(\w+)'", str(last["content"])), "a text"))
    elif schema is not None:
        message["content"] = json.dumps(_example(schema))
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": usage,
    }


def chunks(request: dict[str, Any], script: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The same answer in pieces."""
    whole = complete(request, script)
    head = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": whole["model"]}
    message = whole["choices"][0]["message"]
    for start in range(0, len(message["content"] or ""), 5):
        delta = {"role": "assistant", "content": message["content"][start : start + 5]}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    for place, call in enumerate(message.get("tool_calls") or ()):
        delta = {"tool_calls": [{**call, "index": place}]}
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": whole["choices"][0]["finish_reason"]}]}
    yield {**head, "choices": [], "usage": whole["usage"]}


@contextmanager
def serving(
    script: Sequence[str] = (), models: Sequence[str] = ("scripted",)
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a running server of these models, and every request it gets."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            listed = [{"id": model, "object": "model"} for model in models]
            self._send(json.dumps({"object": "list", "data": listed}).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(request)
            if request.get("stream"):
                body = (
                    "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks(request, script)) + "data: [DONE]\n\n"
                )
                self._send(body.encode(), "text/event-stream")
            else:
                self._send(json.dumps(complete(request, script)).encode())

        def _send(self, body: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _call(request: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    choice = request.get("tool_choice")
    tools = {tool["function"]["name"]: tool["function"] for tool in request["tools"]}
    name = choice["function"]["name"] if isinstance(choice, dict) else next(iter(tools))
    said = last["content"] if isinstance(last["content"], str) else ""
    arguments = _example(tools[name].get("parameters") or {}, said)
    return {"id": "call-1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def _example(schema: dict[str, Any], said: str = "a text") -> Any:
    """A value that fits the schema; texts repeat what was said, numbers are 3."""
    kind = schema.get("type") or (schema.get("anyOf") or [{}])[0].get("type")
    if kind in ("integer", "number"):
        return 3
    if kind == "object" or "properties" in schema:
        return {name: _example(part, said) for name, part in (schema.get("properties") or {}).items()}
    return said or "a text"
