"""Tools for `EVisRAGLLM`: offered to the server that runs the model, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM

from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.interfaces.generators import chats
from visrag_integrations.llamaindex.completions import selections_of, tool_settings
from visrag_integrations.llamaindex.structured import StructuredOutputs

if TYPE_CHECKING:
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.tools.types import BaseTool

    from visrag_integrations.interfaces import Generator


class FunctionCalls(StructuredOutputs, FunctionCallingLLM):
    """The part of an LLM that calls tools: what LlamaIndex's `FunctionAgent` and `AgentWorkflow` need."""

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tools that the model asks for, with their arguments.

        Raises:
            GenerationError: It asks for none, and `error_on_no_tool_call` is on.
        """
        selections = selections_of(response.message)
        if not selections and error_on_no_tool_call:
            said = (response.message.content or "")[:80]
            raise GenerationError(
                f"The model was to call a tool and wrote {said!r}. Serve it with tool calling (vLLM: "
                "--enable-auto-tool-choice --tool-call-parser ...), or ask again."
            )
        return selections

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of `chat` for a question with tools."""
        messages = list(chat_history or ())
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        if user_msg is not None:
            messages.append(user_msg)
        offered = tool_settings(tools, tool_choice, required=tool_required, parallel=allow_parallel_tool_calls)
        return {"messages": messages, **offered, **kwargs}

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        """The response, with one tool call at most where several were not allowed; not every server keeps to that."""
        calls = response.message.additional_kwargs.get("tool_calls")
        if calls and not allow_parallel_tool_calls:
            response.message.additional_kwargs["tool_calls"] = calls[:1]
        return response


def check_takes_tools(generator: Generator) -> None:
    """Nothing, where the generator passes tools on to a server.

    Raises:
        SettingError: It does not.
    """
    if not chats(generator):
        raise SettingError(
            f"Generator {generator.name!r} cannot call tools. Serve the model with an OpenAI-compatible server "
            '(vLLM: --enable-auto-tool-choice) and use EVisRAGLLM("http://localhost:8000/v1"), or use a ReActAgent, '
            "which asks for tools in words."
        )
