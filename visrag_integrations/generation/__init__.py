"""Generators: conversations with pictures in, text out. `load_generator` finds one by its name."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visrag_integrations.errors import CheckpointError, MissingExtraError, UnknownNameError
from visrag_integrations.generation.own_code import refuse_own_code
from visrag_integrations.interfaces.shared import SHARED_GENERATORS, SharedGenerator

if TYPE_CHECKING:
    from visrag_integrations.interfaces import Generator

logger = logging.getLogger(__name__)

GENERATORS = {"extractive": "extractive:ExtractiveGenerator"}
"""Name -> module and class in this room."""
CHECKPOINTS = ("openbmb/EVisRAG-7B", "openbmb/EVisRAG-3B", "autumncc/Qwen2.5-VL-7B-VRAG")
"""Published checkpoints that are loaded by an engine on this machine, as any checkpoint folder is."""
ENGINES = {"vllm": "vllm:VLLMGenerator", "transformers": "transformers:TransformersGenerator"}
"""Package -> the generator that runs a checkpoint with it, best first."""
_SERVER = "openai:OpenAIGenerator"


def load_generator(
    name_or_path_or_url: str | Path, *, engine: str | None = None, shared: bool = False, **settings: Any
) -> Generator:
    """The generator of that name, for that checkpoint folder, or behind that URL.

    Args:
        name_or_path_or_url: "extractive", "openbmb/EVisRAG-7B" or any other name of the hub, a local checkpoint
            folder, or the URL of an OpenAI-compatible server.
        engine: What runs a checkpoint: "vllm" or "transformers"; the first that is installed when None. With an engine
            named, any checkpoint name it knows how to find will do.
        shared: One engine for all in this process who ask for it with the same settings. Each gets a handle; closing it
            never closes the engine for another, and the last handle that is closed frees it.
        **settings: Handed to the generator's constructor.

    Raises:
        UnknownNameError: Nothing is known by that name; the message lists what is.
        CheckpointError: The folder holds no checkpoint, or the checkpoint needs code of its own.
        MissingExtraError: What the generator needs is not installed.
    """
    if not isinstance(name_or_path_or_url, (str, Path)):
        raise UnknownNameError(
            f"The generator is {name_or_path_or_url!r}. Give a name, a checkpoint folder or a URL: "
            'load_generator("extractive").'
        )
    name = str(name_or_path_or_url)
    if shared:
        kept = settings if engine is None else {"engine": engine, **settings}
        return SharedGenerator(SHARED_GENERATORS, name, kept, lambda: load_generator(name, **kept))
    if not settings.get("trust_remote_code"):
        refuse_own_code(name)
    if engine is not None:
        return _make(_named_engine(engine), name, **settings)
    if name in GENERATORS:
        return _make(GENERATORS[name], **settings)
    if name.lower().startswith(("http://", "https://")):  # `urlsplit` raises where it is mistyped
        return _make(_SERVER, name, **settings)
    if name in CHECKPOINTS or _is_checkpoint(name_or_path_or_url) or _is_hub_name(name):
        return _make(_engine(name), name, **settings)
    known = ", ".join([*GENERATORS, *CHECKPOINTS])
    raise UnknownNameError(
        f"No generator is called {name!r}, and it is no folder.{_meant(name)} Known: {known}, another name of the hub "
        'such as "Qwen/Qwen3-VL-4B-Instruct", a checkpoint folder, or the URL of an OpenAI-compatible server such as '
        '"http://localhost:8000/v1".'
    )


def _is_checkpoint(path: str | Path) -> bool:
    if not os.path.isdir(path):  # unlike Path.is_dir it takes any text, however long
        return False
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} holds no config.json, so it is no checkpoint folder. Give the folder that does."
        )
    return True


def _is_hub_name(name: str) -> bool:
    """Whether it is written as names of the hub are: "owner/name".

    >>> [_is_hub_name(name) for name in ("Qwen/Qwen3-VL-4B-Instruct", "gpt-4o", "./mine/model", "/models/mine")]
    [True, False, False, False]
    """
    return re.fullmatch(r"[A-Za-z0-9][\w-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", name) is not None


def _meant(name: str) -> str:
    """What was probably meant by a name that is none: a server without its scheme, or a model of a server.

    >>> _meant("localhost:8000")
    ' Did you mean "http://localhost:8000"?'
    """
    if re.fullmatch(r"[A-Za-z0-9.-]{1,255}:\d{2,5}(/[\w/.-]{0,255})?", name):
        return f' Did you mean "http://{name}"?'
    if re.match(r"(gpt|o\d|chatgpt)(-|$)", name):
        return (
            " A model of OpenAI is one of its server's, with OPENAI_API_KEY set: --generator https://api.openai.com/v1 "
            f'--model {name}, or load_generator("https://api.openai.com/v1", model="{name}").'
        )
    return ""


def _engine(name: str) -> str:
    """The first engine that is installed; the log says which."""
    for package, target in ENGINES.items():
        if importlib.util.find_spec(package) is not None:
            level = logging.INFO if package == "vllm" else logging.WARNING
            logger.log(level, "%s runs on %s; engines in order of preference: %s.", name, package, ", ".join(ENGINES))
            return target
    raise MissingExtraError("To run a checkpoint, vLLM (or transformers with torch)", "vllm")


def _named_engine(engine: str) -> str:
    if engine not in ENGINES:
        raise UnknownNameError(f"No engine is called {engine!r}; choose one of {', '.join(ENGINES)}.")
    return ENGINES[engine]


def _make(target: str, *arguments: Any, **settings: Any) -> Generator:
    module, _, class_name = target.partition(":")
    made: Generator = getattr(importlib.import_module(f"{__name__}.{module}"), class_name)(*arguments, **settings)
    return made
