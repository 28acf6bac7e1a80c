"""`--preset`: two models under one word, and what is said where an index was filled by another one."""

from __future__ import annotations

import argparse
import shlex
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

from visrag_integrations.cli.asked import asked_embedder
from visrag_integrations.cli.noting import note
from visrag_integrations.errors import StoreMismatchError, printable

if TYPE_CHECKING:
    from visrag_integrations.generation.strategies import Prompt
    from visrag_integrations.store import QdrantPageStore

PRESETS = {
    "cpu": ("ocr", "extractive"),
    "cpu-visual": ("cpu-visual", "Qwen/Qwen2.5-VL-3B-Instruct"),
    "gpu": ("openbmb/VisRAG-Ret", "openbmb/EVisRAG-7B"),
}
"""Preset -> (embedder, generator)."""
_EXTRAS = {"gpu": "gpu", "cpu-visual": "cpu,torch"}
"""All that a preset needs, of more than one extra."""
_IN_WORDS = {"cpu": "pages are found by their text", "gpu": "pages are found and read as pictures"}
_HELP = (
    "which models to use: cpu finds pages by their words and quotes; cpu-visual looks at pages without a GPU, slowly; "
    "gpu is VisRAG-Ret and EVisRAG; auto is gpu where it can be, else cpu"
)
_BY_TEXT = ("ocr",)
"""Embedders that read a page's words and do not look at its picture."""


def add_preset_option(parser: argparse.ArgumentParser) -> None:
    """`--preset`."""
    parser.add_argument("--preset", choices=["auto", *PRESETS], default="auto", help=_HELP)


def all_extras_of(arguments: argparse.Namespace, missing: str) -> str:
    """What installs all that the preset needs, where one extra of several is missing; "" where it needs no others."""
    preset = getattr(arguments, "preset", None)
    if preset not in _EXTRAS or missing not in ("cpu", "torch", "vllm"):
        return ""
    return f'\nAll that --preset {preset} needs: pip install "visrag-integrations[{_EXTRAS[preset]}]"'


def preset_models(arguments: argparse.Namespace) -> tuple[str, str]:
    """(embedder, generator) of the preset; `auto` says on standard error which it took and why."""
    if arguments.preset != "auto":
        return PRESETS[arguments.preset]
    chosen: str | None = getattr(arguments, "chosen_preset", None)
    if chosen is None:
        chosen, why = "gpu", "an NVIDIA driver, torch and vLLM are here"
        missing = _missing_for_gpu()
        if missing:
            chosen, why = "cpu", missing
        if not getattr(arguments, "quiet", False):
            note(_said_of(chosen, why, answers=getattr(arguments, "generator", "") is None))
        # So that it is chosen, and said, once. `preset` stays "auto": nobody asked for this one.
        arguments.chosen_preset = chosen
    return PRESETS[chosen]


def _said_of(chosen: str, why: str, *, answers: bool) -> str:
    """Which preset was taken and why; what answers, where that is asked of it."""
    models = " + ".join(PRESETS[chosen])
    words, advice = _IN_WORDS[chosen], "--preset chooses other models."
    if answers and chosen == "cpu":
        words += ", and passages are quoted"
        advice = f"For written answers add --generator URL; {advice}"
    return f"{words}: preset {chosen} ({models}), because {why}. {advice}"


def prompt_of(arguments: argparse.Namespace) -> Prompt:
    """The prompt that was asked for; else that of general models where the preset's generator is one."""
    if arguments.prompt is not None:
        asked: Prompt = arguments.prompt
        return asked
    if arguments.preset == "cpu-visual":
        return "plain"
    return "evisrag"


def device_of(arguments: argparse.Namespace, name: str) -> str | None:
    """The device that was asked for; the processor where the preset is made for it."""
    asked: str | None = arguments.device
    if asked is None and getattr(arguments, "preset", None) == "cpu-visual" and name in PRESETS["cpu-visual"]:
        return "cpu"
    return asked


def _missing_for_gpu() -> str:
    """Why the gpu preset cannot run here; "" when it can."""
    if shutil.which("nvidia-smi") is None:
        return "no NVIDIA driver was found"
    for name in ("torch", "vllm"):  # looked for, not imported: that takes seconds
        if find_spec(name) is None:
            return f"{name} is not installed"
    return ""


def refuse_to_mix(arguments: argparse.Namespace, store: QdrantPageStore) -> None:
    """Nothing, unless the embedder that was asked for by `--embedder` or `--preset` is not one that filled the index.

    Said before the model is loaded, which may have to be downloaded first. What a folder or a registered name holds is
    not known before; the store refuses it later.

    Raises:
        StoreMismatchError: It is not; the message says both ways out.
    """
    if store.info is None:
        return
    asked, option = asked_embedder(arguments), "--embedder"
    if asked is None and arguments.preset != "auto":
        asked, option = PRESETS[arguments.preset][0], "--preset"
    if asked is None or not _is_published(asked):
        return
    filled = [info.embedder for info in store.info.embedders]
    if _bare(asked) in map(_bare, filled):
        return
    said, means = printable(asked), ""
    if option == "--preset":
        said, means = arguments.preset, f" embeds pages with {asked}"
    raise StoreMismatchError(
        f"{option} {said}{means}: collection {arguments.collection!r} in "
        f"{arguments.index!r} was filled by {_named(filled)}, and the vectors of two cannot be compared. Embed what is "
        f"in it again: {_reindex(arguments, option, said)}. Or keep it, and name another --index. Without "
        f"{option}, pages are added as the index is."
    )


def note_other_preset(arguments: argparse.Namespace, store: QdrantPageStore) -> None:
    """Say where an index is searched that the preset that was asked for did not fill."""
    if arguments.preset == "auto" or store.info is None:
        return
    filled = [info.embedder for info in store.info.embedders]
    if _bare(PRESETS[arguments.preset][0]) in map(_bare, filled):
        return
    how = "searching with"
    if all(name in _BY_TEXT for name in filled):
        how = "searching by text with"
    command = _reindex(arguments, "--preset", arguments.preset)
    note(
        f"{how} the embedder {_named(filled)}: this index was not made with the {arguments.preset} preset. To change "
        f"that: {command}"
    )


def _reindex(arguments: argparse.Namespace, option: str, name: str) -> str:
    """The command that embeds the index again, as it is typed."""
    words = ["visrag", "reindex", option, name, "--index", arguments.index]
    if arguments.collection != "pages":
        words += ["--collection", arguments.collection]
    return shlex.join(words)


def _is_published(name: str) -> bool:
    """Whether the embedder is known by this name alone, wherever it runs."""
    from visrag_integrations.embedders import CHECKPOINTS, SYSTEMS, split_pair

    name = split_pair(name)[0]
    if name in CHECKPOINTS or name in {embedder for embedder, _ in PRESETS.values()}:
        return True
    system, _, after = name.partition(":")
    return system in SYSTEMS and after.count("/") == 1 and not after.startswith((".", "~", "/"))


def _bare(name: str) -> str:
    """What embeds the pages, without its system, which is written before it only where a checkpoint does not say it.

    >>> _bare("sentence-transformers:my-org/my-model"), _bare("openbmb/VisRAG-Ret")
    ('my-org/my-model', 'openbmb/VisRAG-Ret')
    """
    from visrag_integrations.embedders import SYSTEMS, split_pair

    name = split_pair(name)[0]
    system, _, after = name.partition(":")
    if system in SYSTEMS and after:
        return after
    return name


def _named(names: list[str]) -> str:
    return " and ".join(repr(printable(name)) for name in names)
