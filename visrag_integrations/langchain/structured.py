"""Structured output: a schema handed to the engine, and what it writes read into the schema's type."""

from __future__ import annotations

import inspect
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

from visrag_integrations.errors import SettingError
from visrag_integrations.interfaces.generators import chats, supports
from visrag_integrations.langchain import completions

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from visrag_integrations.interfaces import Generator

METHODS = ("json_schema", "json_mode", "function_calling")


def with_schema(
    chat: BaseChatModel,
    generator: Generator,
    schema: Any,
    *,
    include_raw: bool,
    method: str,
    strict: bool | None = None,
    **kwargs: Any,
) -> Runnable[Any, Any]:
    """The chat model held to the schema, and a parser behind it.

    Raises:
        SettingError: An unknown method, or an engine that cannot follow a schema.
    """
    if method not in METHODS or kwargs:
        raise SettingError(
            f"method={method!r}, other settings {sorted(kwargs)}: the methods are {', '.join(METHODS)}, and other "
            "settings are not known."
        )
    if not supports(generator, "json_schema") and not chats(generator):
        raise SettingError(
            f"Generator {generator.name!r} cannot hold its text to a schema. Use a model on vLLM or behind an "
            "OpenAI-compatible server."
        )
    json_schema = schema_of(schema)
    if method == "json_mode":  # any JSON object will do
        json_schema = completions.ANY_OBJECT
    bound: dict[str, Any] = {}
    # "Any JSON object" has no schema that could be strict.
    if strict is not None and method == "json_schema":
        bound["strict_schema"] = strict
    held: Runnable[Any, Any] = chat.bind(
        json_schema=json_schema,
        ls_structured_output_format={"kwargs": {"method": method}, "schema": convert_to_json_schema(schema)},
        **bound,
    )
    parser: Runnable[Any, Any] = JsonOutputParser()
    if inspect.isclass(schema) and is_basemodel_subclass(schema):
        parser = PydanticOutputParser[Any](pydantic_object=schema)
    return _parsed(held, parser, include_raw)


def with_tool(
    chat: BaseChatModel, schema: Any, *, include_raw: bool, strict: bool | None = None, **kwargs: Any
) -> Runnable[Any, Any]:
    """The chat model that must call a tool whose arguments are the schema, and a parser behind it."""
    if kwargs:
        raise SettingError(f"Unknown settings: {', '.join(sorted(kwargs))}. There are include_raw, method and strict.")
    tool = convert_to_openai_tool(schema, strict=strict)
    name = tool["function"]["name"]
    held = chat.bind_tools(
        [schema],
        tool_choice=name,
        strict=strict,
        ls_structured_output_format={"kwargs": {"method": "function_calling"}, "schema": tool},
    )
    parser: Runnable[Any, Any] = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    if inspect.isclass(schema) and is_basemodel_subclass(schema):
        tools: Any = [schema]
        parser = PydanticToolsParser(tools=tools, first_tool_only=True)
    return _parsed(held, parser, include_raw)


def _parsed(held: Runnable[Any, Any], parser: Runnable[Any, Any], include_raw: bool) -> Runnable[Any, Any]:
    if not include_raw:
        return held | parser
    # {"raw": message} -> {"raw": message, "parsed": object, "parsing_error": None}, or the error and no object.
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=held) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def schema_of(schema: Any) -> dict[str, Any]:
    """The plain JSON schema of a pydantic class, TypedDict, JSON schema or OpenAI tool schema.

    >>> schema_of({"title": "T", "type": "object", "properties": {"a": {"type": "string"}}})["properties"]
    {'a': {'type': 'string'}}
    """
    if isinstance(schema, dict) and "properties" in schema:
        return schema
    if inspect.isclass(schema) and hasattr(schema, "model_json_schema"):
        found: dict[str, Any] = schema.model_json_schema()
        return found
    return convert_to_json_schema(schema)
