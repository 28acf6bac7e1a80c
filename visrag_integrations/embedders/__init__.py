"""One file a retrieval system; `load_embedder` finds the right one. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.embedders.checkpoints import ADAPTER, resolve_checkpoint
from visrag_integrations.embedders.pairing import pair, split_pair
from visrag_integrations.embedders.served import SERVED, load_by_served_name, load_in_vllm, load_served
from visrag_integrations.embedders.systems import (
    ARCHITECTURES,
    CHECKPOINTS,
    MODULES,
    QUERY_MODELS,
    SYSTEM_KEY,
    SYSTEMS,
    is_recognised,
    recognise,
    recognised_system,
    system_target,
)
from visrag_integrations.embedders.unknown_names import unknown_embedder
from visrag_integrations.errors import CheckpointError, MissingExtraError, SettingError, UnknownNameError
from visrag_integrations.interfaces.embedders import PAIR
from visrag_integrations.interfaces.shared import SHARED_EMBEDDERS, SharedEmbedder

if TYPE_CHECKING:
    from visrag_integrations.interfaces import PageEmbedder

    Factory = str | Callable[..., PageEmbedder]

__all__ = [
    "ARCHITECTURES",
    "CHECKPOINTS",
    "MODULES",
    "QUERY_MODELS",
    "SYSTEMS",
    "SYSTEM_KEY",
    "embedder_names",
    "load_embedder",
    "recognised_system",
    "register_embedder",
    "split_pair",
]

TORCH = {"torch", "transformers", "safetensors"}
"""Packages of the extra that most systems need."""

# The name of the embedder `ocr` with a text model, as a collection remembers it: "ocr:/models/all-MiniLM-L6-v2".
_WITH_TEXT_MODEL = "ocr:"
_named: dict[str, Factory] = {
    "ocr": "visrag_integrations.embedders.ocr:OCREmbedder",
    "cpu-visual": "visrag_integrations.embedders.cpu_visual:CPUVisualEmbedder",
}


def load_embedder(
    name_or_path: str | Path,
    *,
    queries: str | Path | None = None,
    query_settings: Mapping[str, Any] | None = None,
    system: str | None = None,
    url: str | None = None,
    backend: str | None = None,
    shared: bool = False,
    **settings: Any,
) -> PageEmbedder:
    """The embedder of that name, or of the checkpoint in that folder.

    Args:
        name_or_path: "ocr", "cpu-visual", "openbmb/VisRAG-Ret", any registered name, or a local checkpoint folder; the
            name of an embedder that was loaded with `system` is "system:name", one with `queries` "pages|queries", that
            of `ocr` with a text model "ocr:model", and all can be given so.
        queries: What embeds queries, where it is another model than what embeds pages; it must have been trained for
            their vectors. Each is loaded when it is first needed: to search, the pages' model is not.
        query_settings: Handed to that one's class; `settings` go to the pages' model.
        system: Which system a checkpoint belongs to, where its config.json does not say; see `SYSTEMS`.
        url: The server that has the model, for example vLLM's "http://localhost:8000". Models that only vLLM has
            (ColQwen3, ColQwen3.5, Nemotron ColEmbed) need it, unless vLLM is installed here.
        backend: "vllm": the model in vLLM in this process.
        shared: One model for all in this process who ask for it with the same settings. Each gets a handle; closing it
            never closes the model for another, and the last handle that is closed frees it.
        **settings: Handed to the embedder's class, for example `device="cuda"`.

    Raises:
        UnknownNameError: The name, the folder's architecture or the system is in no table.
        CheckpointError: The folder is not a checkpoint.
        MissingExtraError: The embedder needs a package that is not installed.
    """
    name = str(name_or_path)
    if _says_text_model(name, system):
        name, settings = _with_text_model(name, settings)
    if shared:
        if queries is not None:
            settings["queries"] = str(queries)
        if query_settings is not None:
            settings["query_settings"] = dict(query_settings)
        # Part of what tells one shared model from another.
        places = {"system": system, "url": url, "backend": backend}
        settings |= {setting: value for setting, value in places.items() if value is not None}
        return SharedEmbedder(SHARED_EMBEDDERS, name, settings, lambda: load_embedder(name, **settings))
    if queries is None:
        name, queries = split_pair(name, _named)
    if queries is not None:
        places = {"url": url, "backend": backend}
        settings |= {setting: value for setting, value in places.items() if value is not None}
        names, own = (name, str(queries)), query_settings or {}
        return pair(names, load_embedder, _named, system=system, settings=settings, query_settings=own)
    if query_settings is not None:
        raise SettingError("query_settings are those of queries=; name what embeds the queries, or leave them out.")
    if name in _named and (url is not None or backend is not None):
        raise SettingError(f"{name!r} works in this process, without a server; leave url= and backend= out.")
    if name in _named:
        return _resolve(_named[name])(**settings)
    # "minicpm-visual-embedding:/models/mine"; what stands before the colon may also be a drive or a protocol.
    before, _, after = name.partition(":")
    if system is None and before in SYSTEMS and after:
        system, name = before, after
    if url is not None or backend is not None or system == "vllm":
        return _load_elsewhere(name, system, url, backend, settings)
    if system is None and name in SERVED:
        return load_by_served_name(name, settings)
    if system is not None:
        return _load_as(system, name, settings)
    if name in CHECKPOINTS:
        return _resolve(SYSTEMS[CHECKPOINTS[name]])(name, **settings)
    if os.path.exists(os.path.expanduser(name)):  # unlike Path.exists it takes any text, however long
        folder = Path(name).expanduser()
        if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file() and not (folder / MODULES).is_file():
            return _load_adapter(folder, settings)
        return _resolve(SYSTEMS[recognise(folder)])(str(folder), **settings)
    if name in QUERY_MODELS:
        raise SettingError(
            f"{name!r} embeds queries only. Name what embeds the pages too: "
            f'load_embedder("{QUERY_MODELS[name][1]}", queries="{name}").'
        )
    raise unknown_embedder(name, embedder_names())


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
    return sorted({*_named, *CHECKPOINTS, *SERVED})


def _says_text_model(name: str, system: str | None) -> bool:
    """Whether it is "ocr:MODEL"; of two models, each is loaded by its own name."""
    return system is None and name.startswith(_WITH_TEXT_MODEL) and name not in _named and PAIR not in name


def _with_text_model(name: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The embedder's own name and its settings, where the name says the text model.

    >>> _with_text_model("ocr:/models/mine", {"chunk_size": 400})
    ('ocr', {'chunk_size': 400, 'text_model': '/models/mine'})
    """
    model = name.removeprefix(_WITH_TEXT_MODEL)
    said = settings.get("text_model")
    if not model.strip() or (said is not None and str(said) != model):
        raise SettingError(
            f"The embedder {name!r} with text_model={said!r} does not say one text model. Say it in one place: "
            f'load_embedder("ocr", text_model="/models/all-MiniLM-L6-v2").'
        )
    return "ocr", {**settings, "text_model": model}


def _load_elsewhere(
    name: str, system: str | None, url: str | None, backend: str | None, settings: dict[str, Any]
) -> PageEmbedder:
    """The model behind a URL, or in vLLM in this process."""
    if backend not in (None, "vllm"):
        raise SettingError(f'backend is {backend!r}; "vllm" is the one there is. Leave it out otherwise.')
    if url is not None and (backend is not None or system not in (None, "endpoint", "vllm")):
        raise SettingError(f"url= says that a server has {name!r}; leave backend= and system= out.")
    if url is not None:
        return load_served(name, url, settings)
    if system not in (None, "vllm"):
        raise SettingError(f'backend="vllm" reads {name!r} with vLLM; leave system={system!r} out.')
    return load_in_vllm(name, settings)


def _load_as(system: str, name: str, settings: dict[str, Any]) -> PageEmbedder:
    """The checkpoint as that system; where the checkpoint does not say the system, the embedder's name does."""
    embedder: Any = _resolve(system_target(system))(name, **settings)
    if not is_recognised(name, system):
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
