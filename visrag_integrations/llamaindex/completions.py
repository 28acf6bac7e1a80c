"""LlamaIndex in the words of OpenAI-compatible servers: messages and tools in, answers with tool calls out. Pure.

A message keeps its tool calls in `additional_kwargs["tool_calls"]`, as the server wrote them: so they are JSON, and
every version of LlamaIndex carries them along. `ToolCallBlock`s of other LLMs are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool

from visrag_integrations.generation.openai_messages import data_uri
from visrag_integrations.images.sending import picture_file
from visrag_integrations.llamaindex.messages import to_parts
from visrag_integrations.llamaindex.node_pictures import UrlRules
from visrag_integrations.types import GenerationSettings, Page, Part

TOOL_SETTINGS = ("tools", "tool_choice", "parallel_tool_calls")
"""Of a request; they come with one call, never with the model."""
NOT_JSON = "arguments_that_are_not_json"
"""What a tool is called with where the model wrote no JSON object: no tool has it, so the error goes to the model."""
_SAME_NAME = ("max_tokens", "temperature", "top_p", "seed")
"""Settings that have the same name in a request as in `GenerationSettings`."""


# --- requests -------------------------------------------------------------------------------------------------------


def has_tool_messages(messages: Iterable[ChatMessage]) -> bool:
    """Whether there are tool calls or their results among the messages.

    >>> has_tool_messages([ChatMessage("Hello")]), has_tool_messages([ChatMessage("12", role="tool")])
    (False, True)
    """
    return any(message.role == MessageRole.TOOL or calls_of(message) for message in messages)


def to_request(
    messages: Sequence[ChatMessage], settings: GenerationSettings, given: Mapping[str, Any], urls: UrlRules
) -> dict[str, Any]:
    """The body of a chat completions request; what is not set is left out.

    Args:
        messages: The chat.
        settings: How to write.
        given: Tools and what else this call alone says.
        urls: Which pictures behind URLs are opened.
    """
    request: dict[str, Any] = {"messages": to_openai_messages(messages, urls)}
    for name in _SAME_NAME:
        value = getattr(settings, name)
        if value is not None:
            request[name] = value
    if settings.stop:
        request["stop"] = list(settings.stop)
    if settings.repetition_penalty is not None:
        request["extra_body"] = {"repetition_penalty": settings.repetition_penalty}
    if settings.json_schema is not None:
        named = {"name": "answer", "schema": dict(settings.json_schema), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return {**request, **given}


def to_openai_messages(messages: Sequence[ChatMessage], urls: UrlRules) -> list[dict[str, Any]]:
    """The messages of a request; pictures become data URLs.

    Pictures that tools gave come in one user message after all their results: servers take only text from tools, and
    want the results of one turn next to each other.
    """
    converted: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for message in messages:
        if message.role != MessageRole.TOOL and shown:
            converted.append({"role": "user", "content": shown})
            shown = []
        content = list(map(_openai_part, to_parts(message, urls)))
        if message.role == MessageRole.TOOL:
            result, pictures = _tool_result(message, content)
            converted.append(result)
            shown += pictures
        else:
            converted.append(_openai_message(message, content))
    if shown:
        converted.append({"role": "user", "content": shown})
    return converted


def tool_settings(tools: Sequence[BaseTool], tool_choice: Any, *, required: bool, parallel: bool) -> dict[str, Any]:
    """`tools` and `tool_choice` of a request.

    Args:
        tools: What may be called.
        tool_choice: "auto", "none", "required", "any", the name of a tool, or as a server takes it; None leaves it to
            the server.
        required: A tool must be called.
        parallel: Several may be called at once.
    """
    given: dict[str, Any] = {}
    if tools:  # servers refuse an empty list
        given["tools"] = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
    if tool_choice is None and required:
        tool_choice = "required"
    if tool_choice == "any":
        tool_choice = "required"
    names = {tool.metadata.get_name() for tool in tools}
    if isinstance(tool_choice, str) and tool_choice in names:
        tool_choice = {"type": "function", "function": {"name": tool_choice}}
    if tool_choice is not None and tools:
        given["tool_choice"] = tool_choice
    if tools and not parallel:
        given["parallel_tool_calls"] = False
    return given


def _openai_message(message: ChatMessage, content: list[dict[str, Any]]) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": _role(message), "content": _text_or_parts(content)}
    calls = calls_of(message)
    if calls:
        converted["tool_calls"] = calls
        converted["content"] = converted["content"] or None
    return converted


def _role(message: ChatMessage) -> str:
    """The role in OpenAI's words."""
    role = message.role.value
    if role in ("chatbot", "model"):
        return "assistant"
    if role in ("system", "developer", "assistant"):
        return str(role)
    return "user"


def _openai_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    picture = part
    if isinstance(part, Page):
        if part.picture is None:
            return {"type": "text", "text": part.text}
        picture = part.picture  # type: ignore[assignment]
    return {"type": "image_url", "image_url": {"url": data_uri(picture_file(picture).data)}}  # type: ignore[arg-type]


def _text_or_parts(content: list[dict[str, Any]]) -> Any:
    """A plain string where all is text: what every server takes."""
    if any(part["type"] != "text" for part in content):
        return content
    return "\n".join(part["text"] for part in content)


def _tool_result(message: ChatMessage, content: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The message with the tool's text, and the pictures it gave."""
    texts = [part for part in content if part["type"] == "text"]
    pictures = [part for part in content if part["type"] != "text"]
    text = _text_or_parts(texts)
    if pictures and not text:  # an empty result would tell the model that the tool found nothing
        text = "Its images follow."
    call_id = str(message.additional_kwargs.get("tool_call_id") or "")
    return {"role": "tool", "tool_call_id": call_id, "content": text}, pictures


# --- tool calls of a message ----------------------------------------------------------------------------------------


def calls_of(message: ChatMessage) -> list[dict[str, Any]]:
    """The tool calls of a message as OpenAI writes them, from wherever LlamaIndex keeps them."""
    calls = []
    for call in message.additional_kwargs.get("tool_calls") or ():
        if hasattr(call, "model_dump"):  # an object of the openai package
            call = call.model_dump()
        if isinstance(call, Mapping) and "function" in call:
            calls.append(_written_call(call.get("id"), call["function"]["name"], call["function"].get("arguments")))
    if calls:
        return calls
    for block in message.blocks:
        if getattr(block, "block_type", "") == "tool_call":
            calls.append(_written_call(block.tool_call_id, block.tool_name, block.tool_kwargs))  # type: ignore[union-attr]
    return calls


def selections_of(message: ChatMessage) -> list[ToolSelection]:
    """The tools that a message asks for, with their arguments.

    >>> call = {"id": "1", "function": {"name": "add", "arguments": '{"a": 1}'}}
    >>> selections_of(ChatMessage("", additional_kwargs={"tool_calls": [call]}))[0].tool_kwargs
    {'a': 1}
    """
    found = []
    for call in calls_of(message):
        function = call["function"]
        kwargs = _arguments(function["arguments"])
        found.append(ToolSelection(tool_id=call["id"], tool_name=function["name"], tool_kwargs=kwargs))
    return found


def _written_call(id_: Any, name: str, arguments: Any) -> dict[str, Any]:
    if isinstance(arguments, Mapping):
        arguments = json.dumps(arguments, ensure_ascii=False)  # the model reads it: Chinese stays Chinese
    # Some servers number no calls; the tool's result has to name one.
    return {
        "id": str(id_ or f"call_{name}"),
        "type": "function",
        "function": {"name": str(name), "arguments": str(arguments or "{}")},
    }


def _arguments(written: str) -> dict[str, Any]:
    try:
        arguments = json.loads(written)
    except ValueError:
        return {NOT_JSON: written}
    if not isinstance(arguments, dict):
        return {NOT_JSON: written}
    return arguments


# --- answers --------------------------------------------------------------------------------------------------------


def read_answer(answer: Mapping[str, Any], model: str) -> ChatResponse:
    """A server's answer as a chat response."""
    choice = answer["choices"][0]
    said = choice["message"]
    collected = _Collected(model)
    collected.usage = answer.get("usage")
    collected.finish_reason = choice.get("finish_reason")
    collected.model = str(answer.get("model") or model)
    collected.text = said.get("content") or said.get("refusal") or ""
    for place, call in enumerate(said.get("tool_calls") or ()):
        collected.add_call({"index": place, **call})
    return collected.response(with_calls=True)


def read_pieces(pieces: Iterator[Mapping[str, Any]], model: str) -> Iterator[ChatResponse]:
    """Ever longer responses; the last one has the tool calls, which make no sense before they are whole."""
    collected = _Collected(model)
    for piece in pieces:
        collected.usage = piece.get("usage") or collected.usage  # in one of the pieces only, mostly the last
        collected.model = str(piece.get("model") or collected.model)
        for choice in piece.get("choices") or ():
            collected.finish_reason = choice.get("finish_reason") or collected.finish_reason
            delta = choice.get("delta") or {}
            for call in delta.get("tool_calls") or ():
                collected.add_call(call)
            text = delta.get("content") or delta.get("refusal") or ""
            if text:
                collected.text += text
                yield collected.response(delta=text)
    yield collected.response(delta="", with_calls=True)


class _Collected:
    """What a server has said so far."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.text = ""
        self.usage: Mapping[str, Any] | None = None
        self.finish_reason: str | None = None
        self._calls: dict[int, dict[str, Any]] = {}  # by their place in the answer

    def add_call(self, call: Mapping[str, Any]) -> None:
        """A call, or a piece of one: its name comes first, then its arguments letter by letter."""
        place = call.get("index")
        if place is None:  # some servers send whole calls, unnumbered
            place = len(self._calls)
        known = self._calls.setdefault(place, {"id": None, "name": "", "arguments": ""})
        function = call.get("function") or {}
        known["id"] = call.get("id") or known["id"]
        known["name"] = function.get("name") or known["name"]
        known["arguments"] += function.get("arguments") or ""

    def response(self, *, delta: str | None = None, with_calls: bool = False) -> ChatResponse:
        usage = dict(self.usage or {})
        raw = {"model": self.model, "finish_reason": self.finish_reason, "logprob": None, "usage": usage or None}
        kept: dict[str, Any] = {}
        if with_calls and self._calls:
            calls = []
            for place in sorted(self._calls):
                call = self._calls[place]
                id_ = call["id"] or f"call_{place}"
                calls.append(_written_call(id_, call["name"], call["arguments"]))
            kept["tool_calls"] = calls
        message = ChatMessage(role=MessageRole.ASSISTANT, content=self.text, additional_kwargs=kept)
        counted = {}
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            if name in usage:
                counted[name] = usage[name]
        return ChatResponse(message=message, raw=raw, delta=delta, additional_kwargs=counted)
