"""One file a retrieval system; `load_embedder` finds the right one. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.embedders.checkpoints import ADAPTER, resolve_checkpoint
from visrag_integrations.errors import CheckpointError, MissingExtraError, SettingError, UnknownNameError
from visrag_integrations.interfaces.shared import SHARED_EMBEDDERS, SharedEmbedder

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

    Factory = str | Callable[..., PageEmbedder]

SYSTEMS = {
    "visrag-ret": "visrag_integrations.embedders.visrag_ret:VisRAGRetEmbedder",
    "minicpm-visual-embedding": "visrag_integrations.embedders.minicpm_visual:MiniCPMVisualEmbedder",
    "bge-vl-clip": "visrag_integrations.embedders.bge_vl_clip:BGEVLCLIPEmbedder",
    "bge-vl-mllm": "visrag_integrations.embedders.bge_vl_mllm:BGEVLMLLMEmbedder",
    "colqwen2": "visrag_integrations.embedders.colqwen2:ColQwen2Embedder",
    "colpali": "visrag_integrations.embedders.colpali:ColPaliEmbedder",
    "colmodernvbert": "visrag_integrations.embedders.colmodernvbert:ColModernVBertEmbedder",
    "sentence-transformers": "visrag_integrations.embedders.sentence_transformers:SentenceTransformersEmbedder",
    "endpoint": "visrag_integrations.embedders.endpoint:EndpointEmbedder",
}
"""Systems that read a checkpoint: their class is called with its name or folder, then the settings."""
CHECKPOINTS = {
    "openbmb/VisRAG-Ret": "visrag-ret",
    "RhapsodyAI/minicpm-visual-embedding-v0": "minicpm-visual-embedding",
    "BAAI/BGE-VL-base": "bge-vl-clip",
    "BAAI/BGE-VL-large": "bge-vl-clip",
    "BAAI/BGE-VL-MLLM-S1": "bge-vl-mllm",
    "BAAI/BGE-VL-MLLM-S2": "bge-vl-mllm",
    "vidore/colqwen2-v1.0-hf": "colqwen2",
    "vidore/colpali-v1.3-hf": "colpali",
    "ModernVBERT/colmodernvbert-merged": "colmodernvbert",
    "Qwen/Qwen3-VL-Embedding-2B": "sentence-transformers",
    "Qwen/Qwen3-VL-Embedding-8B": "sentence-transformers",
    # Adapters: small files of changes to a base, which is fetched with them.
    "vidore/colpali-v1.2": "sentence-transformers",
    "vidore/colpali-v1.3": "sentence-transformers",
    "vidore/colqwen2-v1.0": "sentence-transformers",
    "vidore/colqwen2.5-v0.2": "sentence-transformers",
    "vidore/colSmol-256M": "sentence-transformers",
    "vidore/colSmol-500M": "sentence-transformers",
    "nomic-ai/colnomic-embed-multimodal-3b": "sentence-transformers",
    "nomic-ai/colnomic-embed-multimodal-7b": "sentence-transformers",
}
"""Published checkpoints and the system each belongs to."""
ARCHITECTURES = {
    "VisRAG_Ret": "visrag-ret",
    "CLIPModel": "bge-vl-clip",
    "LlavaNextForConditionalGeneration": "bge-vl-mllm",
    "LLaVANextForEmbedding": "bge-vl-mllm",
    "ColQwen2ForRetrieval": "colqwen2",
    "ColPaliForRetrieval": "colpali",
    "ColModernVBertForRetrieval": "colmodernvbert",
}
"""What `architectures` in a folder's config.json says, and the system it means."""
MODULES = "modules.json"
"""A folder that has this file is one of sentence-transformers, whatever its architecture."""
SYSTEM_KEY = "visrag_system"
"""In the config.json of a checkpoint that was trained here: its system, where the architecture does not tell it."""
TORCH = {"torch", "transformers", "safetensors"}
"""Packages of the extra that most systems need."""

_named: dict[str, Factory] = {
    "ocr": "visrag_integrations.embedders.ocr:OCREmbedder",
    "cpu-visual": "visrag_integrations.embedders.cpu_visual:CPUVisualEmbedder",
}


def load_embedder(
    name_or_path: str | Path, *, system: str | None = None, shared: bool = False, **settings: Any
) -> PageEmbedder:
    """The embedder of that name, or of the checkpoint in that folder.

    Args:
        name_or_path: "ocr", "cpu-visual", "openbmb/VisRAG-Ret", any registered name, or a local checkpoint folder; the
            name of an embedder that was loaded with `system` is "system:name", and can be given so.
        system: Which system a checkpoint belongs to, where its config.json does not say; see `SYSTEMS`.
        shared: One model for all in this process who ask for it with the same settings. Each gets a handle; closing it
            never closes the model for another, and the last handle that is closed frees it.
        **settings: Handed to the embedder's class, for example `device="cuda"`.

    Raises:
        UnknownNameError: The name, the folder's architecture or the system is in no table.
        CheckpointError: The folder is not a checkpoint.
        MissingExtraError: The embedder needs a package that is not installed.
    """
    name = str(name_or_path)
    if shared:
        if system is not None:  # part of what tells one shared model from another
            settings["system"] = system
        return SharedEmbedder(SHARED_EMBEDDERS, name, settings, lambda: load_embedder(name, **settings))
    if name in _named:
        return _resolve(_named[name])(**settings)
    # "minicpm-visual-embedding:/models/mine"; what stands before the colon may also be a drive or a protocol.
    before, _, after = name.partition(":")
    if system is None and before in SYSTEMS and after:
        system, name = before, after
    if system is not None:
        return _load_as(system, name, settings)
    if name in CHECKPOINTS:
        return _resolve(SYSTEMS[CHECKPOINTS[name]])(name, **settings)
    if Path(name).expanduser().exists():
        folder = Path(name).expanduser()
        if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file() and not (folder / MODULES).is_file():
            return _load_adapter(folder, settings)
        return _resolve(SYSTEMS[_recognise(folder)])(str(folder), **settings)
    raise UnknownNameError(
        f"There is no embedder {name!r}, and no folder of that name. There are: {', '.join(embedder_names())}. "
        'Name one of them or a checkpoint folder; for another hub name say its system, for example system="visrag-ret".'
    )


def register_embedder(name: str, factory: Factory, *, replace: bool = False) -> None:
    """Make `load_embedder(name, **settings)` call `factory(**settings)`.

    Args:
        name: Any name that is not taken.
        factory: A class or function, or "module:attribute", imported when it is first asked for.
        replace: Take the name even where another embedder has it.
    """
    if not name.strip():
        raise SettingError("An embedder's name must not be empty.")
    if name in embedder_names() and not replace:
        raise SettingError(f"The name {name!r} is taken. Choose another, or say replace=True to take its place.")
    if isinstance(factory, str) and not all(factory.partition(":")):
        raise SettingError(
            f'factory is {factory!r}; a string names module and attribute: "my_package.mine:MyEmbedder".'
        )
    _named[name] = factory


def embedder_names() -> list[str]:
    """Every name `load_embedder` knows, sorted."""
    return sorted({*_named, *CHECKPOINTS})


def recognised_system(name: str, folder: Path, *, default: str | None = None) -> str:
    """The system of a checkpoint: by its published name, else by the folder's config.json.

    Args:
        name: As it was given.
        folder: Where it lies.
        default: Given back where neither says it.

    Raises:
        UnknownNameError: Neither says it, and there is no default.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    try:
        return _recognise(folder)
    except UnknownNameError:
        if default is None:
            raise
        return default


def _load_as(system: str, name: str, settings: dict[str, Any]) -> PageEmbedder:
    """The checkpoint as that system; where the checkpoint does not say the system, the embedder's name does."""
    embedder: Any = _resolve(_system_target(system))(name, **settings)
    if not _is_recognised(name, system):
        embedder.name = f"{system}:{embedder.name}"
    loaded: PageEmbedder = embedder
    return loaded


def _load_adapter(folder: Path, settings: dict[str, Any]) -> PageEmbedder:
    """The base that an adapter names, with the adapter added to its weights."""
    try:
        from visrag_integrations.embedders.adapters import load_with_adapter
    except ModuleNotFoundError as err:
        raise MissingExtraError(f"{err.name}", "torch") from err
    return load_with_adapter(folder, lambda base: _load_base(folder, base, settings))


def _load_base(folder: Path, base: str, settings: dict[str, Any]) -> PageEmbedder:
    """The base of an adapter: known by name, or fetched and known by its config.json."""
    if base in CHECKPOINTS:
        return load_embedder(base, **settings)
    try:
        return load_embedder(resolve_checkpoint(base), **settings)
    except UnknownNameError as err:
        raise CheckpointError(
            f"{str(folder)!r} is an adapter of {base!r}, which no embedder here reads by itself. An adapter with "
            f"{MODULES} beside it, as published ones have, is read by sentence-transformers; or give the merged "
            f'checkpoint: "-hf" or "-merged" in its name. {err}'
        ) from err


def _is_recognised(name: str, system: str) -> bool:
    """Whether the name alone, without `system`, leads to that system."""
    if name in CHECKPOINTS:
        return CHECKPOINTS[name] == system
    try:
        return _recognise(Path(name).expanduser()) == system
    except (CheckpointError, UnknownNameError):
        return False


def _system_target(system: str) -> str:
    if system not in SYSTEMS:
        raise UnknownNameError(f"There is no system {system!r}. There are: {', '.join(sorted(SYSTEMS))}.")
    return SYSTEMS[system]


def _recognise(folder: Path) -> str:
    """The system of a checkpoint folder, by what its config.json says, never by its name."""
    if not folder.is_dir():
        raise CheckpointError(f"{str(folder)!r} is a file; give the folder that holds config.json and the weights.")
    if (folder / MODULES).is_file():  # before config.json, which an adapter does not have
        return "sentence-transformers"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        if (folder / ADAPTER).is_file():
            raise CheckpointError(
                f"{str(folder)!r} holds an adapter, no whole model. Say no system=, so that its base is loaded too, or "
                'give the merged checkpoint: published ones have "-hf" or "-merged" in their names.'
            ) from err
        raise CheckpointError(f"{str(folder)!r} holds no config.json, so it is no checkpoint folder.") from err
    except (OSError, ValueError) as err:
        raise CheckpointError(f"config.json in {str(folder)!r} cannot be read: {err}.") from err
    if isinstance(config, dict) and config.get(SYSTEM_KEY) in SYSTEMS:
        return str(config[SYSTEM_KEY])
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list):
        names = []
    for name in names:
        if isinstance(name, str) and name in ARCHITECTURES:
            return ARCHITECTURES[name]
    raise UnknownNameError(
        f"config.json in {str(folder)!r} says architectures={names!r}; recognised: {', '.join(sorted(ARCHITECTURES))}. "
        f"Say which system it is with system=, one of: {', '.join(sorted(SYSTEMS))}."
    )


def _resolve(factory: Factory) -> Callable[..., PageEmbedder]:
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    try:
        found: Callable[..., PageEmbedder] = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as err:
        if err.name in TORCH:
            raise MissingExtraError(err.name, "torch") from err
        raise
    return found
