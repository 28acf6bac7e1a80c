"""LangChain in the words of OpenAI-compatible servers: messages, settings and tools in, answers with tool calls out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool

from visrag_integrations.generation.strict_schema import response_format
from visrag_integrations.images.urls import FetchUrls, data_url
from visrag_integrations.langchain.messages import role_of, to_parts
from visrag_integrations.types import Generation, GenerationSettings, Page, Part

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

ANY_OBJECT = {"type": "object"}
"""The schema of any JSON object."""
_SAME_NAME = ("max_tokens", "temperature", "top_p", "seed")
"""Settings that have the same name in a request as in `GenerationSettings`."""


# --- requests ---------------------------------------------------------------------------------------------------------


def has_tool_messages(messages: Sequence[BaseMessage]) -> bool:
    """Whether there are tool calls or their results among the messages."""
    for message in messages:
        if isinstance(message, ToolMessage):
            return True
        if isinstance(message, AIMessage) and message.tool_calls:
            return True
    return False


def to_request(
    messages: Sequence[BaseMessage],
    settings: GenerationSettings,
    kwargs: Mapping[str, Any],
    *,
    fetch_urls: FetchUrls = False,
    strict: bool | None = None,
) -> dict[str, Any]:
    """The body of a chat completions request; what is not set is left out.

    Args:
        messages: What is asked.
        settings: How to write.
        kwargs: Of the request, as they are.
        fetch_urls: Whether remote pictures are fetched.
        strict: Whether a schema is to be followed strictly; None where it can be.
    """
    request: dict[str, Any] = {"messages": to_openai_messages(messages, fetch_urls=fetch_urls)}
    for name in _SAME_NAME:
        value = getattr(settings, name)
        if value is not None:
            request[name] = value
    if settings.stop:
        request["stop"] = list(settings.stop)
    if settings.json_schema is not None:
        schema = dict(settings.json_schema)
        if schema == ANY_OBJECT:
            request["response_format"] = {"type": "json_object"}
        else:
            request["response_format"] = response_format(schema, strict)
    return {**request, **kwargs}  # what the call itself says wins


def to_openai_messages(messages: Sequence[BaseMessage], *, fetch_urls: FetchUrls = False) -> list[dict[str, Any]]:
    """The messages of a request; pictures become data URLs.

    Pictures that a tool gave come in a user message after it, because servers take only text from tools.
    """
    converted: list[dict[str, Any]] = []
    for message in messages:
        content = list(map(_openai_part, to_parts(message, fetch_urls=fetch_urls)))
        if isinstance(message, ToolMessage):
            converted += _tool_result(message, content)
        else:
            converted.append(_openai_message(message, content))
    return converted


def tool_settings(tools: Sequence[Any], tool_choice: Any, strict: bool | None) -> dict[str, Any]:
    """`tools` and `tool_choice` of a request.

    >>> tool_settings([{"name": "f", "description": "d", "parameters": {}}], "any", None)["tool_choice"]
    'required'
    """
    formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
    if tool_choice is None or tool_choice is False:
        return {"tools": formatted}
    names = {tool["function"]["name"] for tool in formatted if "function" in tool}
    if tool_choice is True or tool_choice == "any":  # LangChain's words for "required"
        tool_choice = "required"
    elif isinstance(tool_choice, str) and tool_choice in names:
        tool_choice = {"type": "function", "function": {"name": tool_choice}}
    return {"tools": formatted, "tool_choice": tool_choice}


def _openai_message(message: BaseMessage, content: list[dict[str, Any]]) -> dict[str, Any]:
    role = "system" if isinstance(message, SystemMessage) else role_of(message)
    # A `ChatMessage` may name a role that only its server knows ("developer").
    converted: dict[str, Any] = {"role": getattr(message, "role", role), "content": _text_or_parts(content)}
    if message.name:
        converted["name"] = message.name
    if isinstance(message, AIMessage) and message.tool_calls:
        converted["tool_calls"] = list(map(_openai_call, message.tool_calls))
    return converted


def _openai_part(part: Part) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Page):
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    if part.picture is None:
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": data_url(part.picture)}}


def _text_or_parts(content: list[dict[str, Any]]) -> Any:
    """A plain string where all is text: what every server takes."""
    if any(part["type"] != "text" for part in content):
        return content
    return "\n".join(part["text"] for part in content)


def _tool_result(message: ToolMessage, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    texts = [part for part in content if part["type"] == "text"]
    images = [part for part in content if part["type"] != "text"]
    text = _text_or_parts(texts)
    if images and not text:  # an empty result would tell the model that the tool found nothing
        text = "Its images follow."
    converted = [{"role": "tool", "tool_call_id": message.tool_call_id, "content": text}]
    if images:
        converted.append({"role": "user", "content": images})
    return converted


def _openai_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call["args"], ensure_ascii=False)  # the model reads it: Chinese stays Chinese
    return {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": arguments}}


# --- answers ----------------------------------------------------------------------------------------------------------


def generate(generator: Any, request: dict[str, Any]) -> ChatResult:
    """The server's answer as a message with its tool calls."""
    answer = generator.chat(request)
    choice = answer["choices"][0]
    said = choice["message"]
    calls, broken = _tool_calls(said.get("tool_calls") or ())
    message = AIMessage(
        content=said.get("content") or "",
        tool_calls=calls,
        invalid_tool_calls=broken,
        response_metadata=_server_metadata(generator, answer, choice),
        usage_metadata=_server_usage(answer.get("usage")),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def stream(generator: Any, request: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
    """The server's answer in pieces."""
    metadata: dict[str, Any] = {}
    usage: Any = None
    for piece in generator.stream_chat(request):
        usage = piece.get("usage") or usage  # in one of the pieces only, mostly the last
        for choice in piece.get("choices") or ():
            if choice.get("finish_reason"):
                metadata = _server_metadata(generator, piece, choice)
            delta = choice.get("delta") or {}
            text = delta.get("content") or ""
            calls = list(map(_call_chunk, delta.get("tool_calls") or ()))
            if text or calls:  # the first piece has only a role, the last only a reason
                yield ChatGenerationChunk(message=AIMessageChunk(content=text, tool_call_chunks=calls))
    last = AIMessageChunk(
        content="",
        response_metadata=metadata or {"model_name": generator.name},
        usage_metadata=_server_usage(usage),
        chunk_position="last",
    )
    yield ChatGenerationChunk(message=last)


def usage_of(written: Generation) -> UsageMetadata | None:
    """LangChain's usage of a generation; None where the engine does not say."""
    if written.usage is None:
        return None
    return _usage(written.usage.input_tokens, written.usage.output_tokens)


def metadata_of(generator: Generator, written: Generation) -> dict[str, Any]:
    """Who wrote it, and how it ended."""
    metadata: dict[str, Any] = {"model_name": str(generator.name)}
    if written.finish_reason is not None:
        metadata["finish_reason"] = written.finish_reason
    if written.logprob is not None:
        metadata["logprob"] = written.logprob
    return metadata


def _server_metadata(generator: Any, answer: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    name = answer.get("model") or generator.name
    return {"model_name": str(name), "finish_reason": choice.get("finish_reason")}


def _server_usage(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    if not usage:
        return None
    return _usage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _usage(read: int, wrote: int) -> UsageMetadata:
    return UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)


def _tool_calls(calls: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Calls whose arguments are a JSON object, and those whose are not."""
    good, broken = [], []
    for call in calls:
        name = call["function"]["name"]
        text = call["function"].get("arguments") or "{}"  # of a tool without arguments
        try:
            arguments = json.loads(text)
        except ValueError as err:  # what a model wrote is no exception: LangChain has a place for it
            broken.append(invalid_tool_call(name=name, args=text, id=call.get("id"), error=str(err)))
            continue
        if isinstance(arguments, dict):
            good.append(tool_call(name=name, args=arguments, id=call.get("id")))
        else:
            broken.append(invalid_tool_call(name=name, args=text, id=call.get("id"), error="not a JSON object"))
    return good, broken


def _call_chunk(call: Mapping[str, Any]) -> Any:
    function = call.get("function") or {}
    return tool_call_chunk(
        name=function.get("name"), args=function.get("arguments"), id=call.get("id"), index=call.get("index")
    )
