"""The `vllm` generator: vLLM in this process, every conversation in flight at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import CheckpointError, GenerationError, MissingExtraError
from visrag_integrations.generation.chat import PromptWriter, WrittenPrompt, shortened
from visrag_integrations.generation.defaults import MAX_CONTEXT, MAX_IMAGES, PUBLISHED, with_defaults
from visrag_integrations.generation.guided import PartRequest, answer_pieces
from visrag_integrations.generation.loop import LoopGenerator
from visrag_integrations.generation.processors import load_processor
from visrag_integrations.types import Conversation, Generation, GenerationSettings, Usage

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams

# vLLM ends a text that goes round in circles as "repetition": like at a limit, it is not whole.
_REASONS = {"stop": "stop", "length": "length", "repetition": "length"}


class VLLMGenerator(LoopGenerator):
    """A checkpoint on vLLM: the engine loads when it is first needed, and then takes all conversations at once.

    Args:
        model_name_or_path: A checkpoint folder, or a name that vLLM finds.
        context_length: At most so many tokens of prompt, pictures and answer; the model's own limit if that is lower.
        max_images: At most so many pictures in one conversation.
        max_concurrency: At most so many conversations in flight, their pictures in memory; vLLM computes what it can.
        settings: How to write where a call does not say; the published settings otherwise.
        trust_remote_code: Run code that comes with the checkpoint. Only for checkpoints you have read.
        **engine: vLLM's own engine arguments, such as `gpu_memory_utilization` or `tensor_parallel_size`.
    """

    supports = ("json_schema",)

    def __init__(
        self,
        model_name_or_path: str,
        *,
        context_length: int = MAX_CONTEXT,
        max_images: int = MAX_IMAGES,
        max_concurrency: int = 256,  # vLLM computes what it can; the others wait, with their pictures in memory
        settings: GenerationSettings | None = None,
        trust_remote_code: bool = False,
        **engine: Any,
    ) -> None:
        super().__init__(str(model_name_or_path), max_concurrency)
        self._defaults = with_defaults(settings, PUBLISHED)
        self.max_images = max_images
        self._options = {"context_length": context_length, "max_images": max_images}
        self._arguments = {"trust_remote_code": trust_remote_code, **engine}
        self._engine: VLLMEngine | None = None
        self._loading = threading.Lock()

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together: as it was asked for, and, once the engine is loaded, as it is."""
        engine = self._engine
        if engine is None:
            return self._options["context_length"]
        return engine.writer.context_length

    def close(self) -> None:
        """Stop the engine and free its memory; after that the generator is of no use."""
        super().close()
        with self._loading:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    async def _write(
        self, conversation: Conversation, settings: GenerationSettings | None, *, whole: bool
    ) -> AsyncGenerator[Generation, None]:
        wanted = with_defaults(settings, self._defaults)
        engine = await asyncio.to_thread(self._loaded)
        prompt = await asyncio.to_thread(engine.writer.write, conversation, wanted)
        wanted = shortened(wanted, prompt)
        totals = VLLMTotals()

        def ask(part: PartRequest) -> AsyncGenerator[str, None]:
            return self._pieces(engine, prompt, part, totals, whole=whole)

        async for piece in answer_pieces(conversation, wanted, ask, lambda: totals.finish_reason):
            yield Generation(piece)
        yield totals.last_piece()

    async def _pieces(
        self, engine: VLLMEngine, prompt: WrittenPrompt, part: PartRequest, totals: VLLMTotals, *, whole: bool
    ) -> AsyncGenerator[str, None]:
        """The texts of one request."""
        request: dict[str, Any] = {"prompt": prompt.text + part.written}
        if prompt.pictures:
            request["multi_modal_data"] = {"image": list(prompt.pictures)}
        outputs = engine.generate(request, sampling_params(part, whole=whole))
        try:
            async for output in outputs:
                totals.read(output, first=not part.written)
                if text := output.outputs[0].text:
                    yield text
        except Exception as err:
            raise self._failure(engine, err) from err
        finally:
            await outputs.aclose()

    def _failure(self, engine: VLLMEngine, err: Exception) -> GenerationError:
        if not engine.dead:
            return GenerationError(f"vLLM failed a request to {self.name!r}: {type(err).__name__}: {err}")
        with self._loading:
            if self._engine is engine:
                self._engine = None
        return GenerationError(
            f"The vLLM engine of {self.name!r} died ({type(err).__name__}). Its log says why; often it is memory: "
            "lower context_length, max_images or gpu_memory_utilization. The next call starts a new engine."
        )

    def _loaded(self) -> VLLMEngine:
        with self._loading:
            if self._engine is None:
                self._engine = VLLMEngine(self.name, self._arguments, **self._options)
            return self._engine


class VLLMEngine:
    """vLLM's asynchronous engine, with what writes its prompts.

    Raises:
        MissingExtraError: vLLM is not installed.
        CheckpointError: It cannot load the checkpoint.
    """

    def __init__(self, name: str, arguments: dict[str, Any], *, context_length: int, max_images: int) -> None:
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is the caller's
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
        except ImportError as err:
            raise MissingExtraError("vLLM", "vllm") from err
        processor = load_processor(name)
        options = {
            "max_model_len": min(context_length, _own_context_length(name, arguments["trust_remote_code"])),
            "limit_mm_per_prompt": {"image": max_images, "video": 0},
            "load_format": "safetensors",
        }
        try:
            self._llm: Any = AsyncLLM.from_engine_args(AsyncEngineArgs(model=name, **{**options, **arguments}))
        except Exception as err:
            raise CheckpointError(f"vLLM cannot load {name!r}: {type(err).__name__}: {err}") from err
        self.writer = PromptWriter(processor, self._llm.model_config.max_model_len, max_images)
        self._numbers = itertools.count()
        self.close = weakref.finalize(self, _shut_down, self._llm)
        """Stop its process; at the latest when this process ends."""

    async def generate(self, request: dict[str, Any], sampling: SamplingParams) -> AsyncGenerator[Any, None]:
        """The outputs of one request; closing it aborts the request."""
        renderer = getattr(self._llm, "renderer", None)
        prompt: Any = request
        if renderer is not None:  # newer versions take only what their renderer made of the request
            prompt = (await renderer.render_cmpl_async([request]))[0]
        outputs = self._llm.generate(prompt, sampling, f"visrag-{next(self._numbers)}")
        try:
            async for output in outputs:
                yield output
        finally:
            await outputs.aclose()

    @property
    def dead(self) -> bool:
        """Whether its process is gone."""
        return bool(self._llm.errored)


@dataclass
class VLLMTotals:
    """What the outputs of one text say beside it."""

    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    _before: float = 0.0  # log-probability of what earlier requests wrote
    _logprob: float = 0.0

    def read(self, output: Any, *, first: bool) -> None:
        """Take in one output."""
        completion = output.outputs[0]
        if first:
            self.input_tokens = len(output.prompt_token_ids)
        self.output_tokens += len(completion.token_ids)
        self._logprob = self._before + (completion.cumulative_logprob or 0.0)
        if output.finished:
            self._before = self._logprob
            self.finish_reason = _REASONS.get(completion.finish_reason, "stop")

    def last_piece(self) -> Generation:
        """An empty piece with how it went."""
        mean = None
        if self.output_tokens:
            mean = self._logprob / self.output_tokens
        return Generation("", mean, Usage(self.input_tokens, self.output_tokens), self.finish_reason)


def sampling_params(part: PartRequest, *, whole: bool) -> SamplingParams:
    """The request's settings in vLLM's words."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    settings = part.settings
    form = None
    if part.regex is not None:
        form = StructuredOutputsParams(regex=part.regex)
    elif settings.json_schema is not None:
        form = StructuredOutputsParams(json=dict(settings.json_schema))
    temperature = settings.temperature
    if temperature is None:
        temperature = 1.0
    output_kind = RequestOutputKind.DELTA
    if whole:
        output_kind = RequestOutputKind.FINAL_ONLY  # one output a text: no work for pieces that nobody reads
    return SamplingParams(
        max_tokens=settings.max_tokens,
        temperature=temperature,
        top_p=settings.top_p or 1.0,
        repetition_penalty=settings.repetition_penalty or 1.0,
        seed=settings.seed,
        stop=list(settings.stop),
        logprobs=0,  # the written token's alone
        structured_outputs=form,
        output_kind=output_kind,
    )


def _own_context_length(name: str, trust_remote_code: bool) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code).get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or MAX_CONTEXT)


def _shut_down(llm: Any) -> None:
    """Stop the engine's process, and only once: done again while Python ends, it fails."""
    handler = getattr(llm, "output_handler", None)
    if handler is not None and handler.get_loop().is_running():  # it would take the stop for a crash
        handler.get_loop().call_soon_threadsafe(handler.cancel)
    llm.shutdown()
    llm.shutdown = lambda *_: None
