"""What LangChain says in OpenAI's words: tools, settings and answers of chat completions servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool

from visrag_integrations.langchain.messages import to_openai_messages
from visrag_integrations.types import Generation, GenerationSettings

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

ANY_OBJECT = {"type": "object"}
"""The schema of any JSON object."""
_PLAIN = ("max_tokens", "temperature", "top_p", "seed")


def offered(generator: Generator) -> bool:
    """Whether the generator takes chat completions requests as they are."""
    return callable(getattr(generator, "chat", None)) and callable(getattr(generator, "stream_chat", None))


def needs_passing_on(messages: Sequence[BaseMessage]) -> bool:
    """Whether the messages speak of tool calls."""
    return any(isinstance(m, ToolMessage) or (isinstance(m, AIMessage) and m.tool_calls) for m in messages)


def to_request(
    messages: Sequence[BaseMessage],
    settings: GenerationSettings,
    kwargs: Mapping[str, Any],
    *,
    fetch_urls: bool = False,
) -> dict[str, Any]:
    """The body of a chat completions request; what is not set is left out."""
    request: dict[str, Any] = {"messages": to_openai_messages(messages, fetch_urls=fetch_urls)}
    request |= {name: value for name in _PLAIN if (value := getattr(settings, name)) is not None}
    if settings.stop:
        request["stop"] = list(settings.stop)
    if settings.json_schema is not None and dict(settings.json_schema) == ANY_OBJECT:
        request["response_format"] = {"type": "json_object"}
    elif settings.json_schema is not None:
        named = {"name": "answer", "schema": dict(settings.json_schema), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return {**request, **kwargs}


def tool_settings(tools: Sequence[Any], tool_choice: Any, strict: bool | None) -> dict[str, Any]:
    """`tools` and `tool_choice` of a request.

    >>> tool_settings([{"name": "f", "description": "d", "parameters": {}}], "any", None)["tool_choice"]
    'required'
    """
    formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
    names = {tool["function"]["name"] for tool in formatted if "function" in tool}
    if tool_choice is None or tool_choice is False:
        return {"tools": formatted}
    if tool_choice is True or tool_choice == "any":
        tool_choice = "required"
    elif isinstance(tool_choice, str) and tool_choice in names:
        tool_choice = {"type": "function", "function": {"name": tool_choice}}
    return {"tools": formatted, "tool_choice": tool_choice}


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
        usage = piece.get("usage") or usage
        for choice in piece.get("choices") or ():
            if choice.get("finish_reason"):
                metadata = _server_metadata(generator, piece, choice)
            delta = choice.get("delta") or {}
            calls = [_call_chunk(call) for call in delta.get("tool_calls") or ()]
            if delta.get("content") or calls:
                yield ChatGenerationChunk(
                    message=AIMessageChunk(content=delta.get("content") or "", tool_call_chunks=calls)
                )
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
    into, out = written.usage.input_tokens, written.usage.output_tokens
    return UsageMetadata(input_tokens=into, output_tokens=out, total_tokens=into + out)


def metadata_of(generator: Generator, written: Generation) -> dict[str, Any]:
    """Who wrote it, and how it ended."""
    known = {"model_name": str(generator.name), "finish_reason": written.finish_reason, "logprob": written.logprob}
    return {name: value for name, value in known.items() if value is not None}


def _server_metadata(generator: Any, answer: Mapping[str, Any], choice: Mapping[str, Any]) -> dict[str, Any]:
    name = answer.get("model") or generator.name
    return {"model_name": str(name), "finish_reason": choice.get("finish_reason")}


def _server_usage(usage: Mapping[str, Any] | None) -> UsageMetadata | None:
    if not usage:
        return None
    into, out = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    return UsageMetadata(input_tokens=into, output_tokens=out, total_tokens=into + out)


def _tool_calls(calls: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Calls whose arguments are a JSON object, and those whose are not."""
    good, broken = [], []
    for call in calls:
        name, text = call["function"]["name"], call["function"].get("arguments") or "{}"
        try:
            arguments = json.loads(text)
        except ValueError as err:
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
