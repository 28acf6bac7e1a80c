"""The `transformers` generator: any image-text-to-text checkpoint of transformers, one conversation after another."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import GenerationError, SettingError
from visrag_integrations.generation import asynchronous
from visrag_integrations.generation.budget import fit_all
from visrag_integrations.generation.checkpoint import Checkpoint, load_checkpoint
from visrag_integrations.generation.defaults import PUBLISHED, fill, refuse_form
from visrag_integrations.generation.prompting import Chat, to_chat
from visrag_integrations.generation.streaming import StopWatch, TokenReader
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 32768
"""Tokens of prompt, pictures and answer together, unless said otherwise: more costs memory on every machine."""


class TransformersGenerator:
    """Qwen2.5-VL, SmolVLM and the like through `AutoModelForImageTextToText`, where vLLM cannot run.

    Conversations are generated one after another, so that none changes another; for many at once use vLLM.

    Args:
        model_name_or_path: A checkpoint folder, or a name that transformers finds.
        device: "cuda", "cpu", ...; a GPU where there is one.
        dtype: "auto" is the checkpoint's own.
        context_length: At most so many tokens of prompt, pictures and answer; the model's own limit if that is lower.
        max_image_tokens: At most so many visual tokens for all pictures; what the context leaves if None.
        defaults: Settings where a call says nothing; EVisRAG's published ones.
        trust_remote_code: Run code that comes with the checkpoint. Only for checkpoints you have read.
    """

    supports: frozenset[str] = frozenset()

    def __init__(
        self,
        model_name_or_path: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        context_length: int = CONTEXT_LENGTH,
        max_image_tokens: int | None = None,
        defaults: GenerationSettings = PUBLISHED,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = str(model_name_or_path)
        self.defaults, self.context_length, self.max_image_tokens = defaults, context_length, max_image_tokens
        self._options: dict[str, Any] = {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code}
        self._checkpoint: Checkpoint | None = None
        self._lock = threading.Lock()

    def generate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """One text per conversation, in order."""
        return [_joined(self.stream(conversation, settings)) for conversation in conversations]

    def stream(self, conversation: Conversation, settings: GenerationSettings | None = None) -> Iterator[Generation]:
        """Pieces as they are written; closing the iterator stops the model after the token it is at.

        Raises:
            SettingError: The settings are not allowed, or the pictures do not fit the context.
            CheckpointError: The checkpoint cannot be loaded.
        """
        filled = fill(settings, self.defaults)
        refuse_form(self.name, filled)
        return self._written(conversation, filled)

    async def agenerate(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None = None
    ) -> list[Generation]:
        """`generate`, without blocking the event loop; cancelling it stops the model."""
        generations = []
        for conversation in conversations:
            pieces = [piece async for piece in self.astream(conversation, settings)]
            generations.append(_joined(iter(pieces)))
        return generations

    async def astream(
        self, conversation: Conversation, settings: GenerationSettings | None = None
    ) -> AsyncIterator[Generation]:
        """`stream`, without blocking the event loop."""
        async for piece in asynchronous.in_thread(self, conversation, settings):
            yield piece

    def _written(self, conversation: Conversation, settings: GenerationSettings) -> Iterator[Generation]:
        checkpoint = self._loaded()
        inputs = self._inputs(checkpoint, to_chat(conversation, checkpoint.control_tokens), settings)
        with closing(Run(checkpoint, inputs, settings, self._lock)) as run:
            yield from run.pieces()

    def _loaded(self) -> Checkpoint:
        with self._lock:
            if self._checkpoint is None:
                self._checkpoint = load_checkpoint(self.name, **self._options)
            return self._checkpoint

    def _inputs(self, checkpoint: Checkpoint, chat: Chat, settings: GenerationSettings) -> Any:
        """The prompt's tensors, the pictures fitted to what the context leaves them."""
        assert settings.max_tokens is not None
        context = min(self.context_length, checkpoint.context_length or self.context_length)
        prompt = checkpoint.prompt(chat)
        room = context - settings.max_tokens - checkpoint.count(prompt)
        pictures = chat.pictures
        if checkpoint.grid is not None and pictures:
            limit = room if self.max_image_tokens is None else min(room, self.max_image_tokens)
            pictures = fit_all(pictures, limit, checkpoint.grid)
        inputs = checkpoint.inputs(prompt, pictures)
        length = inputs["input_ids"].shape[1]
        if length + settings.max_tokens > context:
            raise SettingError(
                f"The prompt is {length} tokens long, pictures included, and the answer may take "
                f"{settings.max_tokens}: more than the context of {context}. Show fewer or smaller pages, lower "
                "max_tokens, or raise context_length where the model allows it."
            )
        return inputs


@dataclass
class Run:
    """One conversation being generated in a thread of its own."""

    checkpoint: Checkpoint
    inputs: Any
    settings: GenerationSettings
    lock: threading.Lock  # one conversation at a time
    _tokens: queue.Queue[tuple[int, float] | BaseException | None] = field(default_factory=queue.Queue)
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _logits: torch.Tensor | None = None  # of the last position, as the network gave them

    def pieces(self) -> Iterator[Generation]:
        """Text as it is written; the last piece says how it went."""
        self._thread = threading.Thread(target=self._generate, name="visrag-transformers", daemon=True)
        self._thread.start()
        reader, watch = TokenReader(self.checkpoint.decode), StopWatch(self.settings.stop)
        logprobs: list[float] = []
        while (item := self._tokens.get()) is not None and not watch.stopped:
            if isinstance(item, BaseException):
                raise GenerationError(_failure(self.checkpoint.name, item)) from item
            logprobs.append(item[1])
            if text := watch.feed(reader.feed(item[0])):
                yield Generation(text)
        rest = watch.feed(reader.finish())
        rest += watch.finish()
        ended = watch.stopped or (reader.ids and reader.ids[-1] in self.checkpoint.end_tokens)
        yield Generation(
            rest,
            logprob=sum(logprobs) / len(logprobs) if logprobs else None,
            usage=Usage(self.inputs["input_ids"].shape[1], len(logprobs)),
            finish_reason="stop" if ended else "length",
        )

    def close(self) -> None:
        """Stop the model, and wait until it has."""
        self._cancelled.set()
        if self._thread is not None:
            self._thread.join()

    def _generate(self) -> None:
        with self.lock:
            if self._cancelled.is_set():
                return
            hook = self.checkpoint.model.get_output_embeddings().register_forward_hook(self._remember)
            try:
                self.checkpoint.generate(self.inputs, self.settings, self._after_token)
            except BaseException as err:  # noqa: BLE001 (raised again where the text is awaited)
                self._tokens.put(err)
            finally:
                hook.remove()
                self._logits = None
                self._tokens.put(None)

    def _remember(self, layer: Any, inputs: Any, logits: torch.Tensor) -> None:
        self._logits = logits[0, -1]  # (V,)

    def _after_token(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Called by transformers after each token; whether to stop."""
        assert self._logits is not None
        token = input_ids[0, -1]
        logprob = self._logits.float().log_softmax(-1)[token]
        self._tokens.put((int(token), float(logprob)))
        return input_ids.new_full((1,), self._cancelled.is_set()).bool()


def _joined(pieces: Iterator[Generation]) -> Generation:
    """The pieces of one text as one generation."""
    texts: list[str] = []
    last = Generation("")
    for piece in pieces:
        texts.append(piece.text)
        last = piece
    return Generation("".join(texts), last.logprob, last.usage, last.finish_reason)


def _failure(name: str, err: BaseException) -> str:
    hint = "Show fewer or smaller pages (max_image_tokens), or use a GPU with more memory." if _is_memory(err) else ""
    return f"Generator {name!r} failed: {type(err).__name__}: {err}. {hint}".rstrip()


def _is_memory(err: BaseException) -> bool:
    return isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
