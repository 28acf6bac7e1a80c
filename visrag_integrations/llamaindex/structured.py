"""Structured outputs: an engine that can follow a JSON schema is given it; others are asked for JSON in words."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms import LLM
from pydantic import BaseModel, ValidationError

from visrag_integrations.errors import GenerationError
from visrag_integrations.interfaces.generators import supports
from visrag_integrations.interfaces.threads import in_thread

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator as PageGenerator

dispatcher = get_dispatcher(__name__)


class StructuredOutputs(LLM):
    """The part of an LLM that gives pydantic objects instead of text."""

    @property
    def generator(self) -> PageGenerator:
        """The core generator."""
        raise NotImplementedError

    @dispatcher.span
    def structured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        """An object of the class, written by the model.

        Raises:
            GenerationError: The engine was given the schema and did not finish it, for example at its token limit.
        """
        if not self._follows_schemas():
            # LlamaIndex asks for JSON in words; EVisRAG's own prompt would ask for its tags beside that.
            plain = {"prompt": "plain", **(llm_kwargs or {})}
            return super().structured_predict(output_cls, prompt, plain, **prompt_args)
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        written = self.chat(self._asked(prompt, prompt_args), **_with_schema(output_cls, llm_kwargs))
        found = _read(output_cls, written.message.content)
        dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    @dispatcher.span
    async def astructured_predict(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Any:
        """`structured_predict`, without blocking the event loop."""
        if not self._follows_schemas():
            plain = {"prompt": "plain", **(llm_kwargs or {})}
            return await super().astructured_predict(output_cls, prompt, plain, **prompt_args)
        dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        written = await self.achat(self._asked(prompt, prompt_args), **_with_schema(output_cls, llm_kwargs))
        found = _read(output_cls, written.message.content)
        dispatcher.event(LLMStructuredPredictEndEvent(output=found))
        return found

    def _structured_stream_call(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> Generator[Any, None, None]:
        """Ever more complete objects where the engine follows schemas; else the finished one."""
        if not self._follows_schemas():
            yield self.structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        # The text grows by a few letters at a time; an object is given only when it says more than the last one.
        last: Any = None
        text = ""
        for response in self.stream_chat(self._asked(prompt, prompt_args), **_with_schema(output_cls, llm_kwargs)):
            text = response.message.content or ""
            found = _read_part(output_cls, text)
            if found is not None and found != last:
                last = found
                yield found
        whole = _read(output_cls, text)
        if whole != last:
            yield whole

    async def _structured_astream_call(
        self, output_cls: Any, prompt: Any, llm_kwargs: dict[str, Any] | None = None, **prompt_args: Any
    ) -> AsyncGenerator[Any, None]:
        return in_thread(self._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args))

    def _follows_schemas(self) -> bool:
        return supports(self.generator, "json_schema")

    def _asked(self, prompt: Any, prompt_args: dict[str, Any]) -> list[ChatMessage]:
        return self._extend_messages(prompt.format_messages(**prompt_args))


def _with_schema(output_cls: type[BaseModel], llm_kwargs: dict[str, Any] | None) -> dict[str, Any]:
    return {**(llm_kwargs or {}), "json_schema": output_cls.model_json_schema()}


def _read(output_cls: type[BaseModel], text: str | None) -> BaseModel:
    text = text or ""
    try:
        return output_cls.model_validate_json(text)
    except ValidationError as err:
        raise GenerationError(
            f"The model was held to the schema of {output_cls.__name__}, and what it wrote does not fit it: "
            f"{text[-80:]!r}. It may have been cut off; allow more with max_tokens=."
        ) from err


def _read_part(output_cls: type[BaseModel], text: str) -> BaseModel | None:
    """The object that the beginning of a JSON text already holds; None while that is none."""
    from pydantic_core import from_json

    # `trailing-strings`: a text that is still being written counts as far as it goes.
    try:
        return output_cls.model_validate(from_json(text, allow_partial="trailing-strings"))
    except ValueError:
        return None
