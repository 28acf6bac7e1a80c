"""What the parameter files of UltraRAG say, read strictly where it is ours and mildly where it is theirs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args

from visrag_integrations.errors import SettingError
from visrag_integrations.types import GenerationSettings, Mode

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class RerankSettings:
    """`backend_configs.visrag.rerank`: a second embedder that scores again what was found.

    Attributes:
        embedder: Its name or folder.
        collection: Where its vectors are, in the same store.
        candidates: How many pages it is given.
    """

    embedder: str
    collection: str = "rerank"
    candidates: int = 50


@dataclass(frozen=True)
class RetrieverSettings:
    """`backend_configs.visrag` of the retriever.

    Attributes:
        store: A folder, or the URL of a Qdrant server (its key: $QDRANT_API_KEY).
        system: Which system a checkpoint belongs to, where its folder does not say.
        embedder: More settings of the embedder, such as `{"device": "cuda"}`.
        mode: "dense", "lexical" or "hybrid"; the embedder's own way when None.
        filter: Only pages with this metadata.
        tenant: Only pages of this tenant; pages that are indexed become theirs.
        rerank: As `RerankSettings`; None for none.
        pictures: Where the store keeps pictures; False keeps none.
        timeout: Seconds a Qdrant server's answer may take.
        write_embeddings: Also write the vectors to `embedding_path`, for embedders of one vector a page.
        skip_unreadable: Pages that cannot be read are left out with a line on standard error, and are no error.
    """

    store: str = ".visrag"
    system: str | None = None
    embedder: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode | None = None
    filter: Mapping[str, Any] | None = None
    tenant: str = ""
    rerank: RerankSettings | None = None
    pictures: str | bool | None = None
    timeout: int | None = None
    write_embeddings: bool = False
    skip_unreadable: bool = False


@dataclass(frozen=True)
class GeneratorSettings:
    """`backend_configs.visrag` of the generation server.

    Attributes:
        model_name_or_path: What answers: a name, a checkpoint folder, or a server's URL.
        engine: "vllm" or "transformers"; the first that is installed when None.
        settings: More settings of the generator, such as `{"model": "EVisRAG-7B"}` for a server.
        guided: Hold the model to EVisRAG's form (vLLM).
        prompt: "published" gives the model EVisRAG's published prompt where UltraRAG's wording of it comes; "as_given"
            leaves every prompt as it comes.
    """

    model_name_or_path: str = "openbmb/EVisRAG-7B"
    engine: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    guided: bool = False
    prompt: str = "published"


def retriever_settings(backend_configs: Mapping[str, Any] | None) -> RetrieverSettings:
    """The retriever's own part of `backend_configs`; what stands there for other backends is theirs.

    Raises:
        SettingError: A key or a value that is not allowed.
    """
    settings = _read(RetrieverSettings, _own_part(backend_configs), "backend_configs.visrag")
    if settings.rerank is not None:
        rerank = _read(RerankSettings, settings.rerank, "backend_configs.visrag.rerank")
        settings = dataclasses.replace(settings, rerank=rerank)
    if settings.mode is not None and settings.mode not in get_args(Mode):
        raise SettingError(
            f"backend_configs.visrag.mode is {settings.mode!r}; use {', '.join(get_args(Mode))}, or null."
        )
    return settings


def generator_settings(backend_configs: Mapping[str, Any] | None) -> GeneratorSettings:
    """The generation server's own part of `backend_configs`.

    Raises:
        SettingError: A key or a value that is not allowed.
    """
    settings = _read(GeneratorSettings, _own_part(backend_configs), "backend_configs.visrag")
    if settings.prompt not in ("published", "as_given"):
        raise SettingError(f"backend_configs.visrag.prompt is {settings.prompt!r}; use published or as_given.")
    return settings


_SAMPLING = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed", "stop")


def sampling_settings(sampling_params: Mapping[str, Any] | None, *, guided: bool) -> GenerationSettings:
    """`sampling_params` as settings; what is not named stays as the model's authors published it.

    Raises:
        SettingError: A parameter there is not: left out silently, it would change the answers.
    """
    given = dict(sampling_params or {})
    unknown = sorted(set(given) - set(_SAMPLING))
    if unknown:
        raise SettingError(f"sampling_params has {', '.join(unknown)}; allowed: {', '.join(_SAMPLING)}.")
    stop = given.pop("stop", None) or ()
    if isinstance(stop, str):
        stop = (stop,)
    return GenerationSettings(**given, stop=tuple(stop), guided=guided)


def use_gpus(gpu_ids: str | int | None) -> None:
    """Show these GPUs only to what is loaded after this, as UltraRAG's servers do; nothing where none are named."""
    if gpu_ids not in (None, ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu_ids)


def _own_part(backend_configs: Mapping[str, Any] | None) -> Any:
    return (backend_configs or {}).get("visrag") or {}


def _read(kind: type[Settings], given: Any, where: str) -> Settings:
    """The settings of that kind; keys that are misspelt must not be silently without effect."""
    allowed = [one.name for one in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if not isinstance(given, Mapping):
        raise SettingError(f"{where} is {given!r}; it must be keys and values: {', '.join(allowed)}.")
    unknown = sorted(set(map(str, given)) - set(allowed))
    if unknown:
        raise SettingError(f"{where} has {', '.join(unknown)}; allowed: {', '.join(allowed)}.")
    try:
        return kind(**given)
    except TypeError as err:  # a required key is missing
        raise SettingError(f"{where}: {err}. Allowed: {', '.join(allowed)}.") from err
