"""The `openai` generator: a model behind any OpenAI-compatible server that takes several pictures."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from visrag_integrations.errors import GenerationError, SettingError, VisRAGError
from visrag_integrations.fetching import without_credentials
from visrag_integrations.generation.chat import merged_parts, picture_sources
from visrag_integrations.generation.defaults import MAX_CONTEXT, PUBLISHED, with_defaults
from visrag_integrations.generation.guided import PartRequest, answer_pieces
from visrag_integrations.generation.loop import LoopGenerator
from visrag_integrations.generation.openai_client import make_client
from visrag_integrations.generation.openai_errors import explained, openai
from visrag_integrations.generation.openai_messages import (
    ChatTotals,
    encoded_pictures,
    to_openai_messages,
    to_request,
)
from visrag_integrations.generation.openai_models import described
from visrag_integrations.types import Conversation, Generation, GenerationSettings

logger = logging.getLogger(__name__)

ServerKind = Literal["vllm", "other"]
_SECONDS_TO_LIST = 5.0  # a list of models comes at once; a server that is starting says nothing for minutes


class OpenAIGenerator(LoopGenerator):
    """A vLLM server, GPT-4o, or whatever else speaks OpenAI's chat completions with pictures.

    Requests are sent again with growing pauses when the server is busy (429), fails (5xx) or cannot be reached.

    >>> OpenAIGenerator("http://localhost:8000/v1")  # doctest: +SKIP
    >>> OpenAIGenerator("https://api.openai.com/v1", model="gpt-4o")  # doctest: +SKIP

    Args:
        server: Its URL; without a path "/v1" is meant. Or a client of the openai package.
        model: Which of the server's models; None where it has one.
        api_key: The environment's OPENAI_API_KEY when None.
        kind: "vllm" knows more settings (`repetition_penalty`, `guided`); None finds out from the server's model list.
        timeout: Seconds a request may take.
        max_retries: How often a request is tried again.
        max_concurrency: Requests at once.
        max_images: Pictures in one conversation; None leaves it to the server.
        context_length: Tokens of prompt and answer together, to which pictures are fitted. None asks the server; one
            that does not say gets pictures as they are.
        image_format: Of pictures that are not sent as the file they are: "PNG" (exact), "JPEG" or "WEBP" (smaller
            requests; PNG files are encoded again then too).
        logprobs: Whether to ask for log-probabilities; some servers refuse.
        settings: How to write where a call does not say; the published settings otherwise.
    """

    supports = ("json_schema",)

    def __init__(
        self,
        server: Any,
        model: str | None = None,
        *,
        api_key: str | None = None,
        kind: ServerKind | None = None,
        timeout: float | None = 600.0,  # a long answer at the end of a busy server's queue takes minutes
        max_retries: int = 4,
        max_concurrency: int = 32,  # each holds its pictures, encoded, in memory here and at the server
        max_images: int | None = None,
        context_length: int | None = None,
        image_format: str = "PNG",
        logprobs: bool = True,
        settings: GenerationSettings | None = None,
    ) -> None:
        _check_options(kind, max_retries)
        self._source = server
        super().__init__(model or self._url, max_concurrency)
        self._model = model
        self._kind = kind
        self._options = {"api_key": api_key, "timeout": timeout, "max_retries": max_retries}
        self.max_images = max_images
        self._context_length = context_length
        self._image_format = image_format
        self._logprobs = logprobs
        self._defaults = with_defaults(settings, PUBLISHED)
        self._client: Any = None
        self._server_known: asyncio.Future[None] | None = None  # done once the server has said what it is

    @property
    def context_length(self) -> int | None:
        """Tokens of prompt and answer together; None while it is not known."""
        return self._context_length

    def with_model(self, model: str) -> OpenAIGenerator:
        """The same server, another of its models."""
        self._loop()
        self._connected()
        other = copy.copy(self)
        other.name = model
        other._model = model
        other._server_known = None
        return other

    def check_model(self) -> None:
        """Nothing, unless the server, asked now and once, has several models and none was named.

        One that cannot be reached, or refuses, says nothing either: it may answer when it is asked.

        Raises:
            SettingError: As above.
            GenerationError: What answers is no such server: a web page, for example.
        """
        if self._model is not None:
            return

        async def ask() -> list[dict[str, Any]]:
            client = self._connected().with_options(max_retries=0, timeout=_SECONDS_TO_LIST)
            return [model.model_dump() for model in (await client.models.list()).data]

        try:
            listed = self._loop().submit(ask()).result()
        except openai.OpenAIError:
            return
        except VisRAGError:
            raise
        except Exception as err:  # of JSON that is none, or is no list of models, the client says anything
            raise explained(err, self._url, None) from err
        if listed:
            described(listed, None, self._url)

    def close(self) -> None:
        """Stop what is being written and the connections of a client that was made here."""
        if self._thread is not None and self._client is not None and self._client is not self._source:
            self._thread.submit(self._client.close()).result()
            self._client = None
        super().close()

    # --- one text ---------------------------------------------------------------------------------------------------

    async def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        wanted = with_defaults(settings, self._defaults)
        await self._find_out()
        if wanted.guided and self._kind != "vllm":
            raise SettingError(
                f"guided=True needs a vLLM server, and {self._url} does not say that it is one. Start one with "
                '`vllm serve openbmb/EVisRAG-7B`, or pass kind="vllm" if it is.'
            )
        messages = await asyncio.to_thread(self._messages, conversation, wanted)
        totals = ChatTotals()

        def ask(part: PartRequest) -> AsyncGenerator[str, None]:
            return self._pieces(messages, part, totals, whole=whole)

        async for piece in answer_pieces(conversation, wanted, ask, lambda: totals.finish_reason):
            yield Generation(piece)
        yield totals.last_piece()

    async def _pieces(
        self, messages: list[dict[str, Any]], part: PartRequest, totals: ChatTotals, *, whole: bool
    ) -> AsyncGenerator[str, None]:
        """The texts of one request."""
        request = self._request(part.settings)
        request["messages"] = messages
        if part.regex is not None:  # only vLLM gets here, and these are its own words
            extra: dict[str, Any] = {"structured_outputs": {"regex": part.regex}}
            if part.written:
                request["messages"] = [*messages, {"role": "assistant", "content": part.written}]
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
            request["extra_body"] = {**request.get("extra_body", {}), **extra}
        totals.begin()
        async with contextlib.aclosing(self._answers(request, stream=not whole)) as answers:
            async for answer in answers:
                if text := totals.read(answer):
                    yield text
        if totals.finish_reason is None:
            raise explained(EOFError("the answer has no end"), self._url, self._model, begun=True)

    def _request(self, settings: GenerationSettings) -> dict[str, Any]:
        limit = "max_tokens"
        if urlsplit(self._url).hostname == "api.openai.com":
            limit = (
                "max_completion_tokens"  # its newer models refuse the old name, other servers do not know the new one
            )
        return to_request(settings, vllm=self._kind == "vllm", logprobs=self._logprobs, token_limit=limit)

    def _messages(self, conversation: Conversation, settings: GenerationSettings) -> list[dict[str, Any]]:
        pictures = picture_sources(conversation, self.max_images)
        budget = self._picture_budget(conversation, settings)
        return to_openai_messages(conversation, encoded_pictures(pictures, budget, self._image_format))

    def _picture_budget(self, conversation: Conversation, settings: GenerationSettings) -> int | None:
        """Tokens left for pictures beside text and answer; None where the server's context is not known."""
        context = self._context_length
        if context is None:
            return None
        # There is no tokenizer here. A token is a byte or more of text, and in long texts much more, so a long text is
        # not taken for more than half of the context: else it would leave no room for pictures that fit well.
        words = 64 * len(conversation)  # what a chat template puts around a message, with room to spare
        for parts in merged_parts(conversation):
            words += sum(len(part.encode()) for part in parts if part is not None)
        answer = min(settings.max_tokens or MAX_CONTEXT, context // 4)
        return context - min(words, context // 2) - answer

    # --- the server -------------------------------------------------------------------------------------------------

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The server's answer to a chat completions request, both as dicts."""

        async def ask() -> dict[str, Any]:
            await self._find_out()
            async for answer in self._answers(dict(request), stream=False):
                return answer
            raise GenerationError(f"{self._url} gave no answer.")

        return self._loop().submit(ask()).result()

    def stream_chat(self, request: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
        """The chunks of the server's answer; closing the iterator cancels."""

        async def chunks() -> AsyncGenerator[dict[str, Any], None]:
            await self._find_out()
            async for chunk in self._answers(dict(request), stream=True):
                yield chunk

        yield from self._loop().stream(chunks()).pieces()

    async def _answers(self, request: dict[str, Any], *, stream: bool) -> AsyncGenerator[dict[str, Any], None]:
        """The answer, or its chunks."""
        request = {"model": self._model, **request}
        begun = False
        try:
            if not stream:
                answer = await self._connected().chat.completions.create(**request)
                yield answer.model_dump()
                return
            request = {"stream_options": {"include_usage": True}, **request, "stream": True}
            chunks = await self._connected().chat.completions.create(**request)
            begun = True
            async with chunks:
                async for chunk in chunks:
                    yield chunk.model_dump()
        except VisRAGError:
            raise
        except Exception as err:  # the client lets through whatever its transport raises
            raise explained(err, self._url, self._model, begun=begun) from err

    async def _find_out(self) -> None:
        """Ask the server, once, for its models, what it is, and how much it reads."""
        if self._server_known is None:
            self._server_known = asyncio.ensure_future(self._ask_for_models())
        try:
            await asyncio.shield(self._server_known)
        except BaseException:
            # Failed: the next call asks again. Where only this caller was cancelled, the others still wait for it.
            if self._server_known is not None and self._server_known.done():
                self._server_known = None
            raise

    async def _ask_for_models(self) -> None:
        if self._model and self._kind and (self._kind == "other" or self._context_length):
            return
        try:
            listed = [model.model_dump() for model in (await self._connected().models.list()).data]
        except (openai.NotFoundError, openai.PermissionDeniedError):
            listed = []
        except VisRAGError:  # the address is none
            raise
        except Exception as err:  # as above
            raise explained(err, self._url, self._model) from err
        known = described(listed, self._model, self._url)
        if self._model is None:
            self._model = str(known["id"])
        self.name = self._model
        if self._kind is None:
            self._kind = "vllm" if known.get("owned_by") == "vllm" else "other"
        self._context_length = self._context_length or known.get("max_model_len")
        logger.info("%s: model %s, kind %s, context %s", self._url, self._model, self._kind, self._context_length)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = make_client(self._source, self._options)
        return self._client

    @property
    def _url(self) -> str:
        """As it may be shown."""
        return without_credentials(str(getattr(self._source, "base_url", self._source)))


def _check_options(kind: str | None, max_retries: int) -> None:
    if kind not in (None, "vllm", "other"):
        raise SettingError(f'kind is {kind!r}; it is "vllm", "other", or None to find out.')
    if max_retries < 0:
        raise SettingError(f"max_retries is {max_retries}; it must be 0 or more.")
