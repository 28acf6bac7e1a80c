"""The model card (README.md) of a trained checkpoint: base, data, recipe, scores, and the weights' terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visrag_integrations.training.bases import START, Base

MINICPM_TERMS = (
    "The weights derive from MiniCPM-V 2.0: their use is subject to the MiniCPM Model License "
    "(https://github.com/OpenBMB/MiniCPM/blob/main/MiniCPM%20Model%20License.md), which asks for a registration before "
    "commercial use."
)
_MINICPM = ("visrag-ret", "minicpm-visual-embedding", START)
_LICENCE = re.compile(r"^license(?:_name|_link)?:.*$", re.MULTILINE)

_ADAPTER = ["This is a LoRA adapter; for vLLM make it whole: `visrag train merge THIS_FOLDER merged`.", ""]


def model_card(base: Base, data: str, settings: Mapping[str, Any], scores: Mapping[str, float]) -> str:
    """The card of a checkpoint.

    Args:
        base: What the training started from.
        data: What it was trained on.
        settings: The recipe's values.
        scores: Of the last evaluation; may be empty.
    """
    lines = _front_matter(base)
    lines += ["# A page retriever", ""]
    lines += [f"Trained from `{_shown(base)}` with the recipe of VisRAG-Ret, by visrag-integrations.", ""]
    lines += ["```python", "from visrag_integrations import load_embedder", ""]
    lines += ['embedder = load_embedder("THIS FOLDER")', "```", ""]
    lines += ["Its vectors are not those of its base: index your documents again (`visrag reindex`).", ""]
    return "\n".join([*lines, *_numbers(data, settings, scores), *_terms(base)])


def reader_card(
    base: Base, stage: str, data: str, settings: Mapping[str, Any], scores: Mapping[str, float], *, adapter: bool
) -> str:
    """The card of a trained reader's checkpoint.

    Args:
        base: What the training started from.
        stage: "sft" or "rl".
        data: What it was trained on.
        settings: The recipe's values.
        scores: Of the last evaluation; may be empty.
        adapter: Whether the checkpoint is a LoRA adapter.
    """
    how = "supervised" if stage == "sft" else "by RS-GRPO, each reward on the tokens it judges"
    lines = _front_matter(base)
    lines += ["# A reader of pages", ""]
    lines += [f"Trained from `{_shown(base)}` with the recipe of EVisRAG, {how}, by visrag-integrations.", ""]
    lines += ["```python", "from visrag_integrations import VisRAG, load_generator", ""]
    lines += ['rag = VisRAG(retriever, load_generator("THIS FOLDER"))', "```", ""]
    if adapter:
        lines += _ADAPTER
    return "\n".join([*lines, *_numbers(data, settings, scores), *_terms(base)])


def agent_card(
    base: Base, stage: str, data: str, settings: Mapping[str, Any], scores: Mapping[str, float], *, adapter: bool
) -> str:
    """The card of a trained agent's checkpoint; arguments as of `reader_card`."""
    how = "supervised, on whole runs" if stage == "sft" else "by GRPO over its own runs"
    lines = _front_matter(base)
    lines += ["# An agent that searches pages, looks closer and answers", ""]
    lines += [f"Trained from `{_shown(base)}` with the recipe of VRAG-RL, {how}, by visrag-integrations.", ""]
    lines += ["```python", "from visrag_integrations import load_generator"]
    lines += ["from visrag_integrations.agent import VRAGAgent", ""]
    lines += ['agent = VRAGAgent(retriever, load_generator("THIS FOLDER"))', "```", ""]
    lines += ["`visrag_agent.json` holds the prompt, the turns and the picture sizes it was trained with.", ""]
    if adapter:
        lines += _ADAPTER
    shown = {name: value for name, value in settings.items() if name != "template"}  # it is in visrag_agent.json
    return "\n".join([*lines, *_numbers(data, shown, scores), *_terms(base)])


def adapter_card(base: Base, adapter: Path) -> str:
    """The card of a base with an adapter merged into it."""
    lines = _front_matter(base)
    lines += [f"# `{_shown(base)}` with a LoRA adapter in its weights", "", f"The adapter: `{adapter.name}`."]
    return "\n".join([*lines, *_terms(base)])


def _numbers(data: str, settings: Mapping[str, Any], scores: Mapping[str, float]) -> list[str]:
    """What it was trained on, with which recipe, and how well it does."""
    lines = ["## Data", "", data, "", "## Recipe", ""]
    for name, value in settings.items():
        lines.append(f"- {name}: {value}")
    if scores:
        lines += ["", "## Scores on the held-out set", ""]
        for name, score in scores.items():
            lines.append(f"- {name}: {score:.4f}")
    return lines


def _front_matter(base: Base) -> list[str]:
    """What the hub reads; the licence as the base's own card says it."""
    lines = ["---", "library_name: visrag-integrations", f"base_model: {_shown(base)}"]
    # Copied word by word: what a licence is called is not for this library to decide.
    card = base.folder / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:5000]
        lines += _LICENCE.findall(head)
    return [*lines, "---", ""]


def _terms(base: Base) -> list[str]:
    said = (
        f"These weights derive from `{_shown(base)}` and stay under its terms; read its model card before you use them."
    )
    lines = ["", "## Terms", "", said]
    if base.system in _MINICPM:
        lines.append(MINICPM_TERMS)
    return [*lines, ""]


def _shown(base: Base) -> str:
    """A hub name as it is; of a folder its last name."""
    # A card is published: no path of this machine belongs on it.
    if Path(base.name).expanduser().is_dir():
        return base.folder.name
    return base.name
