"""The tools of UltraRAG's `generation`: answers from pages, by any generator of this library."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visrag_integrations.errors import SettingError
from visrag_integrations.generation import load_generator
from visrag_integrations.interfaces import Generator
from visrag_integrations.interfaces.closing import close
from visrag_integrations.interfaces.generators import generate
from visrag_integrations.servers.ultrarag.found_pages import FoundPages
from visrag_integrations.servers.ultrarag.prompts import PromptRules, conversations_of, turns_of
from visrag_integrations.servers.ultrarag.settings import generator_settings, sampling_settings, use_gpus
from visrag_integrations.servers.ultrarag.tool_table import Output, ToolSpec
from visrag_integrations.types import Conversation, GenerationSettings

logger = logging.getLogger(__name__)

BACKENDS = ("visrag", "vllm", "openai", "hf")


class GenerationTools:
    """The tools, and the generator that `generation_init` loaded for them.

    Args:
        folder: What `visrag ultrarag init` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._found = FoundPages(folder / "found")
        self._generator: Generator | None = None
        self._settings = GenerationSettings()
        self._published = True

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools, by the names UltraRAG's pipelines use."""
        answers = ("ans_ls",)
        return (
            ToolSpec(self.generation_init, ("backend_configs", "sampling_params", "extra_params", "backend")),
            ToolSpec(self.generate, ("prompt_ls", "system_prompt"), answers),
            ToolSpec(self.multimodal_generate, ("multimodal_path", "prompt_ls", "system_prompt", "image_tag"), answers),
            ToolSpec(self.multiturn_generate, ("messages", "system_prompt"), answers),
            ToolSpec(self.vllm_shutdown, ()),
        )

    def close(self) -> None:
        """Free the generator."""
        if self._generator is not None:
            close(self._generator)
            self._generator = None

    # --- tools: their arguments are UltraRAG's -----------------------------------------------------------------------

    def generation_init(
        self,
        backend_configs: dict[str, Any] | None,
        sampling_params: dict[str, Any] | None,
        extra_params: dict[str, Any] | None = None,
        backend: str = "visrag",
    ) -> Output:
        """Load the generator."""
        self.close()
        settings = generator_settings(backend_configs)
        self._settings = sampling_settings(sampling_params, guided=settings.guided)
        self._published = settings.prompt == "published"
        if extra_params and backend != "visrag":
            # UltraRAG's default here switches off a mode of thinking that page-reading models do not have.
            logger.warning("extra_params has no effect here: %s", ", ".join(extra_params))
        if backend == "visrag":
            self._generator = load_generator(settings.model_name_or_path, engine=settings.engine, **settings.settings)
        else:
            self._generator = _load_as(backend, backend_configs or {})
        return {}

    def generate(self, prompt_ls: list[Any], system_prompt: str | None = "") -> Output:
        """Answers to prompts without pictures."""
        return self.multimodal_generate([], prompt_ls, system_prompt)

    def multimodal_generate(
        self,
        multimodal_path: list[Any],
        prompt_ls: list[Any],
        system_prompt: str | None = "",
        image_tag: str | None = None,
    ) -> Output:
        """Answers to prompts with pictures, all in one batch."""
        generator = self._ready()
        rules = PromptRules(
            self._found,
            (system_prompt or "").strip(),
            (image_tag or "").strip(),
            self._published,
            words_only=generator.name == "extractive",
        )
        return self._write(conversations_of(prompt_ls, multimodal_path, rules))

    def multiturn_generate(self, messages: list[Any], system_prompt: str | None = "") -> Output:
        """The next turn of a conversation."""
        self._ready()
        return self._write([turns_of(messages, (system_prompt or "").strip())])

    def vllm_shutdown(self) -> Output:
        """Free the generator; UltraRAG calls this at the end of every run."""
        self.close()
        return {}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _ready(self) -> Generator:
        if self._generator is None:
            raise SettingError("No generator is loaded. Put the step generation.generation_init before this one.")
        return self._generator

    def _write(self, conversations: Sequence[Conversation]) -> Output:
        if not conversations:
            return {"ans_ls": []}
        written = generate(self._ready(), conversations, self._settings)
        return {"ans_ls": [one.text for one in written]}


def _load_as(backend: str, configs: Mapping[str, Any]) -> Generator:
    """The generator that UltraRAG's own backends name.

    Raises:
        SettingError: There is no such backend, or its part of `backend_configs` names no model.
    """
    if backend not in BACKENDS:
        raise SettingError(f"backend is {backend!r}; use {', '.join(BACKENDS)}.")
    config = dict(configs.get(backend) or {})
    if backend == "openai":
        options: dict[str, Any] = {"model": config.get("model_name")}
        for theirs, ours in (("api_key", "api_key"), ("concurrency", "max_concurrency"), ("retries", "max_retries")):
            if config.get(theirs) is not None:
                options[ours] = config[theirs]
        return load_generator(str(config.get("base_url") or "https://api.openai.com/v1"), **options)
    name = config.pop("model_name_or_path", None)
    if not name:
        raise SettingError(f"backend_configs.{backend}.model_name_or_path names no model.")
    gpu_ids = config.pop("gpu_ids", None)
    use_gpus(gpu_ids)
    if backend == "hf":
        config.pop("batch_size", None)
        config.pop("trust_remote_code", None)  # our engine loads no code from a checkpoint
        return load_generator(name, engine="transformers", **config)
    if gpu_ids not in (None, ""):
        config.setdefault("tensor_parallel_size", len(str(gpu_ids).split(",")))
    return load_generator(name, engine="vllm", **config)
