"""Checkpoints that are no rerankers, or only with code of their own, refused before they give numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visrag_integrations.embedders.library_folders import refuse_cut_off, refuse_pickles
from visrag_integrations.embedders.systems import MODULES
from visrag_integrations.errors import CheckpointError, MissingExtraError
from visrag_integrations.rerankers.published import PUBLISHED

_LIBRARY = "sentence_transformers."
# Parts of the names that the last layer of a classifier has, from BERT and XLM-R to Qwen and XLNet.
_HEADS = ("classifier", "score", "classification_head", "logits_proj")


def refuse_code(name: str) -> None:
    """Nothing, unless a published reranker of that name needs code from its checkpoint.

    Raises:
        CheckpointError: It does; the message says how a server has it.
    """
    published = PUBLISHED.get(name)
    if published is not None and not published.here:
        raise CheckpointError(
            f"{name} needs code from its checkpoint, which is not run here. Serve it with vLLM and give its URL: "
            f'{published.serve}, then CrossEncoderReranker("{name}", url="http://localhost:8000"), or on the command '
            f"line --rerank {name} --rerank-url http://localhost:8000."
        )


def check_checkpoint(folder: Path) -> None:
    """Nothing, where a folder says how its network scores a pair.

    Raises:
        CheckpointError: It does not, has pickled weights, or needs code of its own.
    """
    refuse_pickles(folder)
    refuse_cut_off(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{str(folder)!r} holds no config.json, so it is no checkpoint folder.")
    config = _read(folder / "config.json", dict)
    named = config.get("architectures")
    architectures = named if isinstance(named, list) else []
    if (folder / MODULES).is_file():
        _check_modules(folder, architectures)
    elif not _is_classifier(architectures):
        advice = (
            f"A reranker has a ...ForSequenceClassification, or {MODULES}, which says how its answer becomes a score."
        )
        if config.get("auto_map"):
            advice = (
                "It needs code from the checkpoint, which is not run here: serve it with vLLM and give its URL, "
                "CrossEncoderReranker(NAME, url=URL), or --rerank NAME --rerank-url URL."
            )
        raise CheckpointError(f"{str(folder)!r} is no reranker: its architectures are {architectures!r}. {advice}")
    if _is_classifier(architectures):
        _check_head(folder)


def check_loaded(model: Any, name: str) -> None:
    """Nothing, where the model gives one number a pair.

    Raises:
        CheckpointError: It gives more.
    """
    if model.num_labels != 1:
        raise CheckpointError(
            f"{name} gives {model.num_labels} numbers a pair, as classifiers do; a reranker gives one. "
            "Take a reranker, for example cross-encoder/ms-marco-MiniLM-L6-v2."
        )


def _check_modules(folder: Path, architectures: list[Any]) -> None:
    """The modules are the library's own, and none of them would be random."""
    modules: Any = _read(folder / MODULES, list)
    for module in modules:
        kind = str(module.get("type")) if isinstance(module, dict) else ""
        if not kind.startswith(_LIBRARY):
            raise CheckpointError(
                f"{str(folder)!r} needs code from its checkpoint, {kind!r} in {MODULES}, which is not run here. Serve "
                "it with vLLM and give its URL: CrossEncoderReranker(NAME, url=URL), or --rerank NAME --rerank-url URL."
            )
    # What the library's first module is loaded as; without the file it is no classifier.
    settings = folder / "sentence_bert_config.json"
    task = _read(settings, dict).get("transformer_task") if settings.is_file() else None
    if task == "sequence-classification" and not _is_classifier(architectures):
        raise CheckpointError(
            f"{str(folder)!r} is read as a classifier and has none: its architectures are {architectures!r}. "
            "The last layer would be random."
        )


def _is_classifier(architectures: list[Any]) -> bool:
    return bool(architectures) and str(architectures[0]).endswith("ForSequenceClassification")


def _check_head(folder: Path) -> None:
    """The weights have the last layer; without, the library makes a random one and says so only in its log."""
    try:
        from safetensors import safe_open
    except ImportError as err:
        raise MissingExtraError("sentence-transformers", "sentence-transformers") from err

    # A checkpoint in shards has it in one of them.
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as weights:
            for key in weights.keys():  # noqa: SIM118 - it is no mapping
                if any(head in key for head in _HEADS):
                    return
    raise CheckpointError(
        f"{str(folder)!r} has no weights of a last layer ({', '.join(_HEADS)}): it would be random. Give the whole "
        "checkpoint."
    )


def _read(path: Path, kind: type) -> Any:
    """What a JSON file holds, which is of this kind."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise CheckpointError(f"{path.name} in {str(path.parent)!r} cannot be read: {err}.") from err
    if not isinstance(found, kind):
        expected = "object" if kind is dict else "list"
        raise CheckpointError(f"{path.name} in {str(path.parent)!r} holds no JSON {expected}.")
    return found
