"""The `transformers` generator: any image-text-to-text checkpoint of transformers, one conversation after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import GenerationError, SettingError, VisRAGError
from visrag_integrations.generation.background import BackgroundGenerator, PieceQueue, joined
from visrag_integrations.generation.chat import PromptWriter, shortened
from visrag_integrations.generation.checkpoint import Checkpoint, describe_checkpoint, load_checkpoint
from visrag_integrations.generation.defaults import MAX_CONTEXT, MAX_IMAGES, PUBLISHED, with_defaults
from visrag_integrations.generation.streaming import StopStringFilter, TokenReader, mean
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

if TYPE_CHECKING:
    import torch


class TransformersGenerator(BackgroundGenerator):
    """Qwen2.5-VL, SmolVLM and the like through `AutoModelForImageTextToText`, where vLLM cannot run.

    Conversations are generated one after another, so that none changes another; for many at once use vLLM.

    Args:
        model_name_or_path: A checkpoint folder, or a name that transformers finds.
        device: "cuda", "cpu", ...; a GPU where there is one.
        dtype: "auto" is the checkpoint's own.
        context_length: At most so many tokens of prompt, pictures and answer; the model's own limit if that is lower.
        max_images: At most so many pictures in one conversation.
        settings: How to write where a call does not say; the published settings otherwise.
        trust_remote_code: Run code that comes with the checkpoint. Only for checkpoints you have read.
    """

    supports: tuple[str, ...] = ()

    def __init__(
        self,
        model_name_or_path: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        context_length: int = MAX_CONTEXT,
        max_images: int = MAX_IMAGES,
        settings: GenerationSettings | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.name = str(model_name_or_path)
        self._context_length = context_length
        self.max_images = max_images
        self._defaults = with_defaults(settings, PUBLISHED)
        self._options: dict[str, Any] = {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code}
        self._checkpoint: Checkpoint | None = None
        self._loading = threading.Lock()
        self._running = threading.Lock()  # one text at a time: the network's memory is for one

    @classmethod
    def around(cls, model: Any, processor: Any, *, name: str, **options: Any) -> TransformersGenerator:
        """A generator of a network that you hold already, such as one that is being trained.

        Args:
            model: The network, on its device; nothing of it is changed.
            processor: Its processor.
            name: What it is called.
            **options: As the constructor takes them.
        """
        made = cls(name, **options)
        made._checkpoint = describe_checkpoint(name, model, processor)
        return made

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together: as it was asked for, and, once the checkpoint is loaded, as it is."""
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.context_length is None:
            return self._context_length
        return min(self._context_length, checkpoint.context_length)

    def _submit(
        self, conversations: Sequence[Conversation], settings: GenerationSettings | None
    ) -> tuple[Future[list[Generation]], Callable[[], object]]:
        filled = self._filled(settings)
        cancelled = threading.Event()
        future: Future[list[Generation]] = Future()

        def run() -> None:
            try:
                future.set_result([self._whole(conversation, filled, cancelled) for conversation in conversations])
            except BaseException as err:  # noqa: BLE001 (raised again where the texts are awaited)
                future.set_exception(err)

        future.set_running_or_notify_cancel()
        _in_thread(run)
        return future, cancelled.set

    def _start(self, conversation: Conversation, settings: GenerationSettings | None) -> PieceQueue[Generation]:
        filled = self._filled(settings)
        cancelled = threading.Event()
        queue: PieceQueue[Generation] = PieceQueue(cancelled.set)

        def run() -> None:
            try:
                self._write(conversation, filled, queue.put, cancelled)
                queue.end()
            except BaseException as err:  # noqa: BLE001 (raised again where the text is awaited)
                queue.end(err)

        _in_thread(run)
        return queue

    def _filled(self, settings: GenerationSettings | None) -> GenerationSettings:
        filled = with_defaults(settings, self._defaults)
        refused = ""
        if filled.guided:
            refused = "guided=True"
        elif filled.json_schema is not None:
            refused = "json_schema"
        if refused:
            raise SettingError(
                f"Transformers cannot hold the text of {self.name!r} to a form, so {refused} is refused. Use vLLM: pip "
                'install "visrag-integrations[vllm]", or load_generator("http://localhost:8000/v1") for a vLLM server.'
            )
        return filled

    def _whole(
        self, conversation: Conversation, settings: GenerationSettings, cancelled: threading.Event
    ) -> Generation:
        pieces: list[Generation] = []
        self._write(conversation, settings, pieces.append, cancelled)
        return joined(pieces)

    def _write(
        self,
        conversation: Conversation,
        settings: GenerationSettings,
        put: Callable[[Generation], object],
        cancelled: threading.Event,
    ) -> None:
        """One text, handed on piece by piece."""
        with self._running:
            checkpoint = self._loaded()
            context = self.context_length
            prompt = PromptWriter(checkpoint.processor, context, self.max_images).write(conversation, settings)
            inputs = checkpoint.inputs(prompt.text, prompt.pictures)
            length = inputs["input_ids"].shape[1]
            fitting = shortened(settings, prompt)
            if length + (fitting.max_tokens or 0) > context:  # pictures of models whose counting is not known
                raise GenerationError(
                    f"The prompt is {length} tokens long, pictures included, and the answer may take "
                    f"{fitting.max_tokens}: more than the context of {context}. Show fewer or smaller pages, lower "
                    "max_tokens, or raise context_length if the model allows it."
                )
            _run(checkpoint, inputs, fitting, Recorder(checkpoint, StopStringFilter(settings.stop), put, cancelled))

    def _loaded(self) -> Checkpoint:
        with self._loading:
            if self._checkpoint is None:
                self._checkpoint = load_checkpoint(self.name, **self._options)
            return self._checkpoint


@dataclass
class Recorder:
    """Looks on while a network writes: what each token reads as and how probable it was, and whether to stop."""

    checkpoint: Checkpoint
    stops: StopStringFilter
    put: Callable[[Generation], object]
    cancelled: threading.Event
    logprobs: list[float] = field(default_factory=list)
    _logits: torch.Tensor | None = None  # of the last position, as the network gave them

    def __post_init__(self) -> None:
        self.reader = TokenReader(self.checkpoint.decode)

    def remember(self, layer: Any, inputs: Any, logits: torch.Tensor) -> None:
        """A forward hook of the output layer."""
        self._logits = logits[0, -1]  # (V,)

    def after_token(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Called by transformers after each token; whether to stop."""
        assert self._logits is not None
        token = int(input_ids[0, -1])
        # Of the logits as the network gave them: temperature and penalties would make texts of different settings
        # incomparable, and weighted selection compares them.
        self.logprobs.append(float(self._logits.float().log_softmax(-1)[token]))
        if text := self.stops.feed(self.reader.feed(token)):
            self.put(Generation(text))
        return input_ids.new_full((1,), self.stops.stopped or self.cancelled.is_set()).bool()

    def finish(self, input_tokens: int) -> None:
        """Hand on the last piece, which says how it went."""
        rest = self.stops.feed(self.reader.finish()) + self.stops.finish()
        ids = self.reader.ids
        reason = "length"
        if self.stops.stopped or (ids and ids[-1] in self.checkpoint.end_tokens):
            reason = "stop"
        self.put(Generation(rest, mean(self.logprobs), Usage(input_tokens, len(ids)), reason))


def _run(checkpoint: Checkpoint, inputs: Any, settings: GenerationSettings, recorder: Recorder) -> None:
    if recorder.cancelled.is_set():
        raise GenerationError("The generation was cancelled before it began.")
    hook = checkpoint.model.get_output_embeddings().register_forward_hook(recorder.remember)
    try:
        checkpoint.generate(inputs, settings, recorder.after_token)
    except VisRAGError:
        raise
    except Exception as err:
        hint = ""
        if (
            isinstance(err, MemoryError) or type(err).__name__ == "OutOfMemoryError"
        ):  # torch's, of one device or another
            hint = " Show fewer pages, lower context_length, or use a GPU with more memory."
        raise GenerationError(f"Generator {checkpoint.name!r} failed: {type(err).__name__}: {err}.{hint}") from err
    finally:
        hook.remove()
    recorder.finish(inputs["input_ids"].shape[1])


def _in_thread(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="visrag-transformers", daemon=True).start()
